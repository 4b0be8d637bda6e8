"""The same graph in other versions of ONNX."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from fewshot_sdk.errors import ExportError
from fewshot_sdk.graphs.nodes import ROUND, Nodes, value
from fewshot_sdk.graphs.versions import OPSET, at_versions, lowest_ir_version


def model() -> onnx.ModelProto:
    """Reductions and splits, in a loop, too."""
    g = Nodes()
    left, right = g.several("Split", 2, "x", axis=1, num_outputs=2)
    start = g("ReduceMean", g("Mul", left, right), g.integers(1), keepdims=1)
    b = Nodes(g)
    state = b.input()
    end = b("Add", state, b("ReduceMax", left, b.integers(1), keepdims=1))
    (found,) = g.loop(g.constant(3, np.int64), b, [start], [b("Add", end, b("Cast", ROUND, to=1))])
    g.output(found, "y")
    return g.model([value("x", np.float32, "n", 4)], [value("y", np.float32, "n", 1)])


def answer(model: onnx.ModelProto) -> list[float]:
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": x})
    return [float(number) for number in found.ravel()]


@pytest.mark.parametrize("opset", [15, 16, 17, 18, 19, 21])
def test_it_answers_the_same(opset: int) -> None:
    before = model()
    changed = at_versions(before, opset)
    assert [entry.version for entry in changed.opset_import] == [opset]
    assert changed.ir_version == lowest_ir_version(opset)
    assert answer(changed) == answer(before)
    assert before == model()


def test_no_constant_is_left_that_nothing_uses() -> None:
    graph = at_versions(model(), 15).graph
    names = {tensor.name for tensor in graph.initializer}
    (loop,) = [node for node in graph.node if node.op_type == "Loop"]
    inside = {name for node in loop.attribute[0].g.node for name in node.input}
    assert names <= inside | {name for node in graph.node for name in node.input}


def test_an_operator_that_an_opset_lacks_is_named() -> None:
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"])
    whole = [value("x", np.float32, 2, 4), value("s", np.float32, 4)]
    graph = helper.make_graph([node], "g", whole, [value("y", np.float32, 2, 4)])
    normed = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    at_versions(normed, 17)
    with pytest.raises(ExportError, match=r"no form in opset 16 \(No Op registered for LayerNorm.*try --opset 20"):
        at_versions(normed, 16)
