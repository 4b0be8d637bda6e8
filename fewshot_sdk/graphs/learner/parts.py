"""A learner's file taken apart: its steps on features, for networks whose steps move the head alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
from onnx import numpy_helper

from fewshot_sdk.config.backbone import HEAD
from fewshot_sdk.config.onnx_file import LearnerMetadata
from fewshot_sdk.errors import ExportError, FewshotError
from fewshot_sdk.graphs.nodes import value
from fewshot_sdk.graphs.weights import Tensors

SUPPORT, LABELS, QUERIES, STEPS = "support", "labels", "queries", "steps"
RATE, BATCHES, TRANSDUCTIVE, PROBABILITIES = "learning_rate", "batches", "transductive", "probabilities"
_OTHER_MAKE = "this learner's file is of another make; export it again with `fewshot export-learner`"


def takes_features(metadata: LearnerMetadata) -> bool:
    """Whether a learner's steps move the head alone, and no picture's features depend on the others."""
    return metadata.adaptation.trainable == "head" and metadata.backbone.judges_alone


@contextmanager
def taking_apart() -> Iterator[None]:
    """Raises ExportError for any error inside: of onnx's checker, or of a look for what another make does not have."""
    try:
        yield
    except FewshotError:
        raise
    except Exception:  # onnx's own errors share no base
        raise ExportError(_OTHER_MAKE) from None


@taking_apart()
def body_of(learner: onnx.ModelProto) -> Tensors:
    """The weights of such a learner's network, without the head: they are the same before and after the steps.

    Raises ExportError for a graph of another make.
    """
    stored = {tensor.name: tensor for tensor in learner.graph.initializer}
    copies = {node.output[0]: node.input[0] for node in learner.graph.node if node.op_type == "Identity"}
    names = [o.name for o in learner.graph.output if o.name not in (PROBABILITIES, *HEAD)]
    return {name: numpy_helper.to_array(stored[copies[name]]) for name in names}


@taking_apart()
def steps_of(learner: onnx.ModelProto, metadata: LearnerMetadata) -> onnx.ModelProto:
    """The part of a learner that adapts, without metadata; its input `batches` must be given.

    If `takes_features`, `support` and `queries` are features, float32 (n, n_features), and the outputs are
    `probabilities` and the head. Otherwise it is the learner.
    Raises ExportError for a graph of another make.
    """
    made = onnx.ModelProto()
    made.CopyFrom(learner)
    del made.metadata_props[:]
    graph = made.graph
    if takes_features(metadata):
        width = next(o.type.tensor_type.shape.dim[1].dim_value for o in graph.output if o.name == HEAD[0])
        for name, rows in ((SUPPORT, "S"), (QUERIES, "Q")):
            end = _features(graph, name)
            for node in graph.node:
                node.input[:] = [name if given == end else given for given in node.input]
            _replace(graph, value(name, np.float32, rows, width))
        kept = [output for output in graph.output if output.name in (PROBABILITIES, *HEAD)]
        del graph.output[:]
        graph.output.extend(kept)
        _prune(graph)
    optional = [tensor for tensor in graph.initializer if tensor.name == BATCHES]
    for tensor in optional:
        graph.initializer.remove(tensor)
    onnx.checker.check_model(made, full_check=True)
    return made


def _features(graph: onnx.GraphProto, start: str) -> str:
    """The name of the features of the pictures that are the input `start`: what the column of ones is added to."""
    reached = {start}
    for node in graph.node:
        if reached & set(node.input):
            if node.op_type == "Pad":
                return str(node.input[0])
            reached |= set(node.output)
    raise ExportError(_OTHER_MAKE)


def _replace(graph: onnx.GraphProto, made: onnx.ValueInfoProto) -> None:
    for given in graph.input:
        if given.name == made.name:
            given.CopyFrom(made)


def _prune(graph: onnx.GraphProto) -> None:
    """Remove nodes, constants and optional inputs that no output depends on."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(_names(node))
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for field in (graph.initializer, graph.input):
        used = [entry for entry in field if entry.name in needed]
        del field[:]
        field.extend(used)
    del graph.value_info[:]


def _names(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node uses, inside loop bodies, too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _names(inner)
