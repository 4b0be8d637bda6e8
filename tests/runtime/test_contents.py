from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fewshot_sdk.errors import BundleError
from fewshot_sdk.runtime.contents import STEPS, check_contents


def model(
    *nodes: onnx.NodeProto, initializers: tuple[onnx.TensorProto, ...] = (), asked: bool = True, **settings: object
) -> bytes:
    """A file from x to y. asked: whether `steps` is an input."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    steps = helper.make_tensor_value_info(STEPS, TensorProto.INT64, [])
    graph = helper.make_graph(list(nodes), "g", [x, steps][: 1 + asked], [y], list(initializers))
    data: bytes = helper.make_model(graph, **settings).SerializeToString()
    return data


def loop(*inputs: str, body: onnx.NodeProto | None = None) -> onnx.NodeProto:
    graph = helper.make_graph([body or helper.make_node("Identity", ["going"], ["out"])], "body", [], [])
    return helper.make_node("Loop", list(inputs), ["y"], body=graph)


def test_operators_on_weights_are_run() -> None:
    weights = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    check_contents(model(helper.make_node("Add", ["x", "w"], ["y"]), initializers=(weights,)), "m")


def test_a_learners_loop_over_its_steps_is_run() -> None:
    check_contents(model(loop("steps", "", "x")), "m")


@pytest.mark.parametrize(
    "node",
    [
        loop("x", "", "x"),  # as often as a weight or a computation says
        loop("", "going", "x"),
        loop("steps", "going", "x"),
        loop("steps", "", "x", body=loop("steps", "", "x")),
        helper.make_node("If", ["x"], ["y"], then_branch=helper.make_graph([], "t", [], [])),
        helper.make_node("Scan", ["x"], ["y"], body=helper.make_graph([], "t", [], []), num_scan_inputs=1),
    ],
)
def test_what_may_never_end_is_refused(node: onnx.NodeProto) -> None:
    with pytest.raises(BundleError, match=r"m has a '(Loop|If|Scan)' that may never end"):
        check_contents(model(node), "m")


ENDLESS = onnx.numpy_helper.from_array(np.array(2**62), STEPS)


@pytest.mark.parametrize(
    "data",
    [
        model(loop(STEPS, "", "x"), asked=False),
        model(loop(STEPS, "", "x"), initializers=(ENDLESS,), asked=False),
        model(loop(STEPS, "", "x"), initializers=(ENDLESS,)),  # an input that has a value
        model(helper.make_node("Constant", [], [STEPS], value=ENDLESS), loop(STEPS, "", "x")),
        model(loop(STEPS, "", "x")) + model(initializers=(ENDLESS,), asked=False),  # a graph in two parts
    ],
    ids=["nowhere", "a weight", "an input's value", "computed", "in parts"],
)
def test_a_file_does_not_say_itself_how_many_steps_a_learner_takes(data: bytes) -> None:
    with pytest.raises(BundleError, match="m has a 'Loop' that may never end"):
        check_contents(data, "m")


def test_functions_are_refused() -> None:
    opset = [helper.make_opsetid("", 20)]
    function = helper.make_function("own", "f", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], opset)
    with pytest.raises(BundleError, match="functions of its own"):
        check_contents(model(helper.make_node("f", ["x"], ["y"], domain="own"), functions=[function]), "m")


@pytest.mark.parametrize("where", ["initializer", "attribute"])
def test_weights_in_another_file_are_refused(where: str) -> None:
    weights = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    onnx.external_data_helper.set_external_data(weights, "../secret")
    weights.ClearField("raw_data")
    constant = helper.make_node("Constant", [], ["w"], value=weights)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    data = model(add, initializers=(weights,)) if where == "initializer" else model(constant, add)
    with pytest.raises(BundleError, match="keeps weights in another file"):
        check_contents(data, "m")


def test_a_word_in_a_label_is_no_other_file() -> None:
    check_contents(model(helper.make_node("Neg", ["x"], ["y"]), doc_string="location"), "m")


GRAPH = 7  # the field of a model that holds its graph
LOOPS = model(loop("x", "", "x"))


def as_group(number: int) -> bytes:
    """An empty group, which onnx never writes and every reader of protocol buffers skips."""
    return bytes([number << 3 | 3, number << 3 | 4])


def tagged(data: bytes, tag: bytes) -> bytes:
    """The same file with another tag before its graph."""
    graph = onnx.load_from_string(data).graph.SerializeToString()
    at = data.index(graph) - 1
    while data[at] & 128 or data[at] != GRAPH << 3 | 2:
        at -= 1
    return data[:at] + tag + data[at + 1 :]


@pytest.mark.parametrize(
    "hidden",
    [
        bytes([GRAPH << 3, 1]) + LOOPS,
        LOOPS + bytes([GRAPH << 3, 1]),
        as_group(9) + LOOPS,
        tagged(LOOPS, bytes([GRAPH << 3 | 2 | 128, 128, 128, 128, 0x10])),
    ],
    ids=["a number for a graph", "at the end", "a group", "a tag of more than 32 bits"],
)
def test_what_onnxruntime_would_skip_hides_nothing(hidden: bytes) -> None:
    with pytest.raises(BundleError, match="m is not an ONNX file"):
        check_contents(hidden, "m")


def test_sparse_weights_of_an_operator_are_refused() -> None:
    floats = onnx.numpy_helper.from_array(np.ones(1, np.float32), "v")
    sparse = helper.make_sparse_tensor(floats, onnx.numpy_helper.from_array(np.zeros(1, np.int64), "i"), [2**28])
    with pytest.raises(BundleError, match="sparse weights"):
        check_contents(model(helper.make_node("Constant", [], ["y"], sparse_value=sparse)), "m")


def test_damage_is_refused_in_one_sentence() -> None:
    good = model(loop("steps", "", "x"))
    check_contents(good, "m")
    rng = np.random.default_rng(0)
    for _ in itertools.repeat(None, 500):
        bad = bytearray(good)
        bad[rng.integers(len(bad))] = rng.integers(256)
        try:
            check_contents(bytes(bad), "m")
        except BundleError:
            continue
