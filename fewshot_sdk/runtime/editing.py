"""Changing an exported classifier's file without PyTorch: other names, fewer classes, another threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fewshot_sdk.config.edits import Edit
from fewshot_sdk.config.onnx_file import (
    FEATURES,
    HEAT_MAP,
    INPUT,
    KNOWN,
    LABEL,
    METADATA_KEY,
    OUTPUT,
    PIXELS,
    THRESHOLD,
    OnnxMetadata,
)
from fewshot_sdk.config.recipe import Preprocessing, Rows
from fewshot_sdk.config.regression import REGRESSOR_FILE
from fewshot_sdk.errors import BundleError, ParityError
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.runtime.session import opened
from fewshot_sdk.storage.files import sha256

TOLERANCE = 1e-5  # of a logit that is recomputed from the same numbers, relative to the largest
PICTURES = 16
_SAME_SHAPE = ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear", "Softmax")  # a column for each class


def edited_file(data: bytes, edit: Edit, name: str = "the model") -> bytes:
    """The bytes of an exported classifier after an edit, from those before; `name` is what messages call it.

    Classes are taken out of the graph itself, their rows of the head included. The file is returned only if
    onnxruntime gives the classes that remain the same logits and scores as before, on made-up pictures.
    Raises BundleError for a file that is not an exported classifier, or whose graph is of another make, ConfigError as
    `Edit.applied` does, ParityError if the answers differ.
    """
    metadata = metadata_of(data, name)
    kept, labels = edit.applied(metadata.labels)
    made = edit.replace(sha256=sha256(data))
    after = metadata.replace(labels=labels, edits=(*metadata.edits, made))
    model = onnx.load_from_string(data)
    graph = _Graph(model, name)
    try:
        if edit.threshold is not None:
            graph.set_threshold(edit.threshold)
            after = after.replace(threshold=edit.threshold)
        columns = graph.keep(kept) if edit.dropped else []
        onnx.checker.check_model(model, full_check=True)
    except (LookupError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        raise graph.odd("other nodes") from None
    helper.set_model_props(model, {**_properties(model), METADATA_KEY: after.model_dump_json()})
    changed: bytes = model.SerializeToString(deterministic=True)
    Predictor(opened(changed, 1, name))  # its graph matches its metadata
    if columns:
        _check(data, changed, columns, kept, metadata.preprocessing, raw=metadata.raw)
    return changed


def metadata_of(data: bytes, name: str) -> OnnxMetadata:
    """The metadata of a file that can be edited. Raises BundleError for a file that is not an exported classifier."""
    file = opened(data, 1, name)
    if file.format == REGRESSOR_FILE:
        raise BundleError(f"{name} predicts numbers, and only classifiers of pictures can be edited")
    return Predictor(file).metadata


class _Graph:
    """A classifier's graph, to be changed in place, as `graphs.classifier` and the quantizer write it."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self._graph, self._name = model.graph, name
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        self._made_by = {output: node for node in self._graph.node for output in node.output}

    def set_threshold(self, threshold: float) -> None:
        """Set the default of the optional input; a file from before there was one gets it."""
        if THRESHOLD not in self._tensors:
            node = self._node(KNOWN)
            while node.op_type in ("Identity", "And"):
                node = self._node(node.input[0])
            if node.op_type != "GreaterOrEqual" or node.input[1] not in self._tensors:
                raise self.odd(node.op_type)
            node.input[1] = THRESHOLD
            self._graph.input.append(helper.make_tensor_value_info(THRESHOLD, onnx.TensorProto.FLOAT, []))
            self._tensors[THRESHOLD] = self._graph.initializer.add()
        self._tensors[THRESHOLD].CopyFrom(numpy_helper.from_array(np.array(threshold, np.float32), THRESHOLD))

    def keep(self, kept: Sequence[int]) -> list[str]:
        """Keep only these classes; the names of the results with a column for each class that answers depend on."""
        node = self._node(OUTPUT)
        while node.op_type in _SAME_SHAPE:
            node = self._node(node.input[0])
        if node.op_type != "Gemm" or not any(a.name == "transB" and a.i for a in node.attribute):
            raise self.odd(node.op_type)
        head = node.input[1]
        node.input[1], node.input[2] = (self._rows(part, kept) for part in node.input[1:3])
        columns = self._follow(node.output[0], kept)
        if HEAT_MAP in self._made_by:
            self._keep_heat_map(head, node.input[1])
        for output in self._graph.output:
            if output.name == OUTPUT:
                output.type.tensor_type.shape.dim[1].dim_value = len(kept)
        self._remove_unused()
        return columns

    def _follow(self, start: str, kept: Sequence[int]) -> list[str]:
        """Cut what is computed class by class from the logits; the names of what goes into a maximum or Softmax."""
        found: list[str] = []
        wide, told = {start}, {start}
        for node in list(self._graph.node):
            told |= set(node.output) if told & set(node.input) else set()
            into = [name for name in node.input if name in wide]
            if not into:
                continue
            if node.op_type in ("Softmax", "ReduceMax", "ArgMax"):
                found += into
            elif node.op_type in ("Sub", "Mul"):
                node.input[1] = self._rows(node.input[1], kept)
            elif node.op_type not in _SAME_SHAPE:
                raise self.odd(node.op_type)
            if node.op_type not in ("Softmax", "ReduceMax", "ArgMax"):
                wide |= set(node.output)
        for shape in [shape for shape in self._graph.value_info if shape.name in told]:
            self._graph.value_info.remove(shape)  # only these: how the network is computed depends on the others
        return sorted(set(found))

    def _keep_heat_map(self, before: str, after: str) -> None:
        """Let the heat map use the new head, and its mean row."""
        (gather,) = [node for node in self._graph.node if node.op_type == "Gather" and node.input[0] == before]
        gather.input[0] = after
        (cast,) = [node for node in self._graph.node if gather.output[0] in node.input]
        (less,) = [node for node in self._graph.node if cast.output[0] in node.input]
        less.input[1] = self._add(self._floats(after).mean(0, dtype=np.float32), less.input[1])

    def _rows(self, name: str, kept: Sequence[int]) -> str:
        """The name of a new tensor with some rows of one in the file, or of one that is stored in 8 bits."""
        if name in self._tensors:
            return self._add(numpy_helper.to_array(self._tensors[name])[list(kept)], name)
        node = self._node(name)
        across = {a.name: a.i for a in node.attribute}.get("axis")
        if node.op_type != "DequantizeLinear" or across != 0:
            raise self.odd(node.op_type)
        parts = [self._add(numpy_helper.to_array(self._tensors[part])[list(kept)], part) for part in node.input]
        fewer = helper.make_node(node.op_type, parts, [f"{name}_kept"], f"{name}_kept", axis=0)
        self._graph.node.insert(0, fewer)
        self._made_by[fewer.output[0]] = fewer
        return str(fewer.output[0])

    def _floats(self, name: str) -> NDArray[np.float32]:
        """The numbers of a tensor in the file, or of one that is stored in 8 bits."""
        if name in self._tensors:
            return numpy_helper.to_array(self._tensors[name]).astype(np.float32)
        steps, scale, zero = (numpy_helper.to_array(self._tensors[part]) for part in self._node(name).input)
        rows: NDArray[np.float32] = (steps.astype(np.float32) - zero.astype(np.float32)[:, None]) * scale[:, None]
        return rows

    def _add(self, array: NDArray[np.generic], beside: str) -> str:
        """The name of a new tensor; never in place of the old one, which other nodes may share."""
        name = f"{beside}_kept"
        while name in self._tensors and not np.array_equal(numpy_helper.to_array(self._tensors[name]), array):
            name += "_kept"
        if name not in self._tensors:
            self._tensors[name] = self._graph.initializer.add()
            self._tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _remove_unused(self) -> None:
        """Remove the rows that were cut, which would otherwise still be in the file."""
        results = {output.name for output in self._graph.output}
        while True:
            used = {name for node in _nodes(self._graph) for name in node.input} | results
            idle = [node for node in self._graph.node if not used & set(node.output)]
            if not idle:
                break
            for node in idle:
                self._graph.node.remove(node)
        for tensor in list(self._graph.initializer):
            if tensor.name not in used:
                self._graph.initializer.remove(tensor)

    def _node(self, name: str) -> onnx.NodeProto:
        node: onnx.NodeProto | None = self._made_by.get(name)
        if node is None:
            raise self.odd("the end")
        return node

    def odd(self, operator: str) -> BundleError:
        """What to raise where another operator was expected."""
        return BundleError(
            f"{self._name}: its graph is of another make (found {operator} where the head was expected); edit the "
            "classifier's folder and export it again"
        )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those inside others, too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _check(
    before: bytes, after: bytes, columns: Sequence[str], kept: Sequence[int], size: Preprocessing, *, raw: bool
) -> None:
    """Raises ParityError unless these results for each class, and labels and probabilities, are those of before."""
    feed = {PIXELS if raw else INPUT: _pictures(size, raw)}
    if isinstance(size, Rows):
        feed = {FEATURES: np.random.default_rng(0).normal(size=(PICTURES, size.width)).astype(np.float32)}
    old, new = (dict(zip(columns, _run(data, columns, feed), strict=True)) for data in (before, after))
    worst = max(
        float(np.abs(old[name][:, kept] - new[name]).max() / max(1.0, np.abs(old[name]).max())) for name in columns
    )
    label, rows = _run(after, (LABEL, OUTPUT), feed)
    fits = (label == rows.argmax(1)).all() and np.allclose(rows.sum(1), 1, atol=1e-3)
    if not worst <= TOLERANCE or not fits:
        raise ParityError(
            f"the edited file and the one before disagree: a logit differs by {worst:.2g} of the largest, allowed "
            f"{TOLERANCE:.0e}; no file was written"
        )


def _run(data: bytes, names: Sequence[str], feed: dict[str, NDArray[np.generic]]) -> list[NDArray[np.floating]]:
    """Results inside a graph, by their names."""
    model = onnx.load_from_string(data)
    there = {output.name for output in model.graph.output}
    for name in names:
        if name not in there:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    return opened(model.SerializeToString(), 1).session.run(names, feed)


def _pictures(size: Preprocessing, raw: bool) -> NDArray[np.generic]:
    """Noise, coarse to fine, of the network's size."""
    rng, sides = np.random.default_rng(0), (size.height, size.width)
    found = []
    for grain in (1, 2, 4, 8):
        cells = [-(-side // grain) for side in sides]
        coarse = rng.integers(0, 256, (PICTURES // 4, *cells, 3), np.uint8)
        found.append(coarse.repeat(grain, 1).repeat(grain, 2)[:, : sides[0], : sides[1]])
    pictures = np.concatenate(found)
    if not raw:
        return pictures
    return np.ascontiguousarray(pictures[..., : size.channels].transpose(0, 3, 1, 2).astype(np.float32) / 255)


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}
