"""ONNX files that somebody made to cost memory, or to answer nonsense."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fewshot_sdk import Predictor, adapt, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.errors import BundleError
from fewshot_sdk.runtime import session
from tests.conftest import draw_folder


@pytest.fixture(scope="module")
def good(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    folder = tmp_path_factory.mktemp("good")
    export_onnx(adapt(init, draw_folder(folder / "in"), method="prototypes"), folder / "model.onnx")
    return onnx.load(folder / "model.onnx")


def answering(model: onnx.ModelProto, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> bytes:
    """The same inputs, outputs and metadata around another computation."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.node[:], found.graph.initializer[:]
    found.graph.node.extend(nodes)
    found.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    del found.graph.value_info[:]
    kept = [given for given in found.graph.input if given.name == "images"]
    del found.graph.input[:]
    found.graph.input.extend(kept)
    data: bytes = found.SerializeToString()
    return data


def answers(row: list[float], known: bool = True) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes that give `row` for any picture."""
    nodes = [
        helper.make_node("Identity", ["row"], ["probabilities"]),
        helper.make_node("Identity", ["one"], ["label"]),
        helper.make_node("Identity", ["yes"], ["known"]),
    ]
    weights: dict[str, np.ndarray] = {
        "row": np.array([row], np.float32),
        "one": np.zeros(1, np.int64),
        "yes": np.array([known]),
    }
    return nodes, weights


def test_onnxruntimes_own_format_whose_contents_are_not_checked_is_refused(
    good: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, path = onnxruntime.SessionOptions(), tmp_path / "model.ort"
    options.log_severity_level, options.optimized_model_filepath = 4, str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(good.SerializeToString(), options)
    with pytest.raises(BundleError, match="is not an ONNX file"):
        Predictor(path)
    monkeypatch.setattr(session, "check_contents", lambda *_: None)  # as for a file that is both at once
    with pytest.raises(BundleError, match="is not an ONNX file"):
        Predictor(path)


BLANK = np.zeros((1, 8, 8, 3), np.uint8)


@pytest.mark.parametrize("row", [[float("nan")] * 3, [float("inf"), 0, 0], [0.5, 0.5], [0.25] * 4])
def test_an_answer_that_is_not_a_number_for_each_class_is_refused(good: onnx.ModelProto, row: list[float]) -> None:
    with pytest.raises(BundleError, match=r"probabilities are|does not match its metadata"):
        Predictor(answering(good, *answers(row))).predict([BLANK[0]])


def test_a_computation_that_onnxruntime_refuses_while_it_runs_is_one_sentence(good: onnx.ModelProto) -> None:
    nodes, weights = answers([1, 0, 0])
    nodes[0] = helper.make_node("Reshape", ["row", "shape"], ["probabilities"])
    nodes.insert(0, helper.make_node("Shape", ["images"], ["sides"]))
    nodes.insert(1, helper.make_node("Slice", ["sides", "from", "to"], ["shape"]))
    weights |= {"from": np.array([1]), "to": np.array([3])}
    with pytest.raises(BundleError, match=r"cannot be run \(.*\); export it again"):
        Predictor(answering(good, nodes, weights)).predict([BLANK[0]])


def test_a_small_file_cannot_take_all_memory(good: onnx.ModelProto, tmp_path: Path) -> None:
    nodes, weights = answers([1, 0, 0])
    nodes[0] = helper.make_node("Div", ["row", "sum"], ["probabilities"])
    nodes.insert(0, helper.make_node("Shape", ["images"], ["sides"]))
    nodes.insert(1, helper.make_node("Mul", ["sides", "many"], ["shape"]))
    nodes.insert(2, helper.make_node("ConstantOfShape", ["shape"], ["zeros"]))
    nodes.insert(3, helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0))
    weights["many"] = np.array([1, 2**10, 2**10, 2**6])  # 48 GiB
    path = tmp_path / "large.onnx"
    path.write_bytes(answering(good, nodes, weights))
    script = (
        "import resource, sys\n"
        "from fewshot_sdk import Predictor\n"
        "from fewshot_sdk.errors import BundleError\n"
        "import numpy as np\n"
        "try:\n"
        "    Predictor(sys.argv[1]).predict([np.zeros((8, 8, 3), np.uint8)])\n"
        "except BundleError as error:\n"
        "    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=120)
    said, peak = done.stdout.splitlines()
    assert "needs more memory than there is" in said
    assert int(peak) < 5 * 2**20  # KiB


def test_names_that_are_no_text_are_refused_when_the_file_is_opened(good: onnx.ModelProto) -> None:
    data = good.SerializeToString()
    assert data.count(b"threshold") > 1
    with pytest.raises(BundleError, match="the model is not an ONNX file"):
        Predictor(data.replace(b"threshold", b"thres\xffold"))


def test_the_file_behind_these_is_right(good: onnx.ModelProto) -> None:
    assert Predictor(answering(good, *answers([1, 0, 0]))).predict([BLANK[0]])[0].probability == 1
    assert good.graph.output[0].type.tensor_type.elem_type == TensorProto.INT64
