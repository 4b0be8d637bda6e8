"""The versions of a graph: its opset, for old ones with operators as they were written then, and its IR version."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper, numpy_helper

from fewshot_sdk.errors import ConfigError, ExportError

OPSET = 20
OPSETS, IR_VERSIONS = (15, 23), (8, 13)  # before opset 15 Shape could not take a part, which preprocessing needs
OLDEST_WRITTEN = 18  # graphs for older opsets are written for this one, then changed by `at_versions`
_REDUCTIONS = ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare")


def lowest_ir_version(opset: int) -> int:
    """The IR version that came with an opset, which every runtime of that opset reads."""
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


def check_versions(opset: int, ir_version: int | None = None) -> None:
    """Raises ConfigError for an opset outside 15 to 23, or an IR version outside that opset's to 13."""
    first, last = OPSETS
    if not first <= opset <= last:
        raise ConfigError(f"opset: expected {first} to {last}, found {opset}")
    lowest, highest = lowest_ir_version(opset), IR_VERSIONS[1]
    if ir_version is not None and not lowest <= ir_version <= highest:
        advice = "; for a lower one take a lower opset, too" if ir_version < lowest else ""
        raise ConfigError(f"IR version: expected {lowest} to {highest} with opset {opset}, found {ir_version}{advice}")


def at_versions(model: onnx.ModelProto, opset: int, ir_version: int | None = None) -> onnx.ModelProto:
    """The same model in another opset and IR version (None: the lowest for the opset), without unused constants.

    Up to opset 17 the axes of reductions are attributes, and Split needs no number of outputs.
    Raises ExportError if the graph has operators that the opset lacks.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    if opset < OLDEST_WRITTEN:
        _as_before_18(found.graph)
    _remove_unused(found.graph)
    for entry in found.opset_import:
        entry.version = opset if entry.domain in ("", "ai.onnx") else entry.version
    found.ir_version = ir_version or lowest_ir_version(opset)
    try:
        onnx.checker.check_model(found, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).splitlines()[0]
        raise ExportError(f"this network has no form in opset {opset} ({reason}); try --opset {OPSET}") from None
    return found


def _as_before_18(graph: onnx.GraphProto) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in _nodes(graph):
        if node.op_type in _REDUCTIONS and len(node.input) > 1 and node.input[1] in constants:
            axes = numpy_helper.to_array(constants[node.input.pop()])
            _drop(node, "noop_with_empty_axes")
            node.attribute.append(helper.make_attribute("axes", axes.tolist()))
        if node.op_type == "Split":
            _drop(node, "num_outputs")


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove constants that nothing uses, of which onnxruntime would warn."""
    used = {name for node in _nodes(graph) for name in node.input}
    used |= {each.name for each in (*graph.input, *graph.output)}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _drop(node: onnx.NodeProto, name: str) -> None:
    for attribute in [each for each in node.attribute if each.name == name]:
        node.attribute.remove(attribute)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those inside others, too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
