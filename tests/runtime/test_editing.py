"""Editing an exported file: it becomes the export of the edited classifier."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fewshot_sdk import Classifier, Predictor, adapt, export_learner, export_onnx
from fewshot_sdk.artifacts.editing import edited
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.edits import Edit
from fewshot_sdk.config.onnx_file import KNOWN, METADATA_KEY, THRESHOLD
from fewshot_sdk.config.recipe import Backbone, Conv4, EfficientNet, Mlp, Residual
from fewshot_sdk.config.records import Method
from fewshot_sdk.errors import BundleError, ConfigError, ParityError
from fewshot_sdk.export import checks
from fewshot_sdk.export.checks import Precision
from fewshot_sdk.runtime import editing
from fewshot_sdk.runtime.editing import edited_file
from fewshot_sdk.storage.files import sha256
from tests.adaptation.test_extension import photographs
from tests.adaptation.test_methods import of_tails
from tests.conftest import draw_folder, tiny_recipe
from tests.runtime.test_predictor import before_there_was_an_input

PICTURES = np.random.default_rng(0).integers(0, 256, (30, 20, 20, 3), np.uint8)
LABELS = ("ant", "bee", "cat", "dog")
KINDS: dict[str, tuple[Backbone, Method]] = {
    "conv4": (Conv4(filters=4), "reptile"),
    "mlp": (Mlp(widths=(9,)), "probe"),
    "residual": (Residual(widths=(4, 6)), "prototypes"),
    "efficientnet": (EfficientNet(summary="statistics"), "prototypes"),
}


@pytest.fixture(scope="module", params=KINDS)
def classifier(
    request: pytest.FixtureRequest, init: Initialization, tmp_path_factory: pytest.TempPathFactory
) -> Classifier:
    backbone, method = KINDS[request.param]
    if request.param == "efficientnet":
        return adapt(of_tails(init, "statistics"), photographs("abcd"), method=method)
    start = fresh(tiny_recipe(backbone=backbone), 0, init.provenance)
    folder = draw_folder(tmp_path_factory.mktemp("support") / "in", LABELS)
    return adapt(start, folder, method=method)


@pytest.fixture(autouse=True)
def _few_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "RANDOM", 14)
    monkeypatch.setattr(checks, "RANDOM_LARGE", 14)
    monkeypatch.setattr(checks, "RANDOM_MAPS", 7)


@pytest.fixture
def file(init: Initialization, drawings: Path, tmp_path: Path) -> bytes:
    """Of ant, bee and cat."""
    return export_onnx(adapt(init, drawings, method="reptile", steps=5), tmp_path / "m.onnx").path.read_bytes()


def all_at_once(labels: tuple[str, ...]) -> Edit:
    """The last and the first class swap names, the second goes."""
    return Edit(renamed={labels[3]: labels[0], labels[0]: labels[3]}, dropped=(labels[1],), threshold=0.4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_edited_file_is_the_export_of_the_edited_classifier(
    classifier: Classifier, tmp_path: Path, precision: Precision
) -> None:
    edit, mapped = all_at_once(classifier.labels), classifier.config.backbone.kind != "mlp"
    whole, less = (
        export_onnx(made, tmp_path / f"{i}.onnx", precision=precision, max_drop=1, heat_map=mapped).path.read_bytes()
        for i, made in enumerate((classifier, edited(classifier, edit)))
    )
    found, wanted = Predictor(edited_file(whole, edit)), Predictor(less)
    assert found.labels == wanted.labels == tuple(classifier.labels[i] for i in (3, 2, 0))
    assert found.metadata.threshold == 0.4
    for left, right in zip(found.answers(PICTURES), wanted.answers(PICTURES), strict=True):
        np.testing.assert_array_equal(left, right)
    if mapped:
        maps = wanted.heat_maps(PICTURES)
        np.testing.assert_allclose(found.heat_maps(PICTURES), maps, atol=1e-3 * np.abs(maps).max())


def test_in_8_bits_the_heat_map_is_of_the_classes_that_remain(classifier: Classifier, tmp_path: Path) -> None:
    if classifier.config.backbone.kind == "mlp":
        pytest.skip("has no heat map")
    edit = all_at_once(classifier.labels)
    small = export_onnx(classifier, tmp_path / "8.onnx", precision="int8", max_drop=1, heat_map=True).path
    found = Predictor(edited_file(small.read_bytes(), edit))
    wanted = Predictor(export_onnx(edited(classifier, edit), tmp_path / "32.onnx", heat_map=True).path)
    pixels = classifier.support.images
    same = found.probabilities(pixels).argmax(1) == wanted.probabilities(pixels).argmax(1)
    maps = wanted.heat_maps(pixels)
    assert same.mean() > 0.7
    assert np.abs(found.heat_maps(pixels) - maps)[same].max() < 0.15 * np.abs(maps).max()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_probabilities_that_remain_keep_their_ratios(
    classifier: Classifier, tmp_path: Path, precision: Precision
) -> None:
    whole = export_onnx(classifier, tmp_path / "m.onnx", precision=precision, max_drop=1).path.read_bytes()
    rows = Predictor(whole).probabilities(PICTURES)[:, [0, 2, 3]].astype(np.float64)
    found = Predictor(edited_file(whole, Edit(dropped=(classifier.labels[1],)))).probabilities(PICTURES)
    np.testing.assert_allclose(found, rows / rows.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_nothing_of_a_dropped_class_stays_in_the_file(classifier: Classifier, tmp_path: Path) -> None:
    whole = export_onnx(classifier, tmp_path / "m.onnx", heat_map=classifier.config.backbone.kind != "mlp").path
    row = classifier.params["head.weight"][1].numpy().tobytes()
    assert row in whole.read_bytes()
    assert row not in edited_file(whole.read_bytes(), Edit(dropped=(classifier.labels[1],)))


def test_names_and_threshold_leave_the_weights_and_the_graph_alone(file: bytes) -> None:
    after = onnx.load_from_string(edited_file(file, Edit(renamed={"ant": "emu"}, threshold=0.25)))
    before = onnx.load_from_string(file)
    assert after.graph.node == before.graph.node
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    assert tensors.pop(THRESHOLD) == np.float32(0.25)
    for tensor in before.graph.initializer:
        if tensor.name != THRESHOLD:
            np.testing.assert_array_equal(tensors[tensor.name], numpy_helper.to_array(tensor))


def test_each_edit_is_recorded_with_the_hash_of_the_file_before(file: bytes) -> None:
    once = edited_file(file, Edit(renamed={"ant": "emu"}))
    twice = edited_file(once, Edit(dropped=("bee",)))
    before, after = Predictor(file).metadata, Predictor(twice).metadata
    assert after.edits == (
        Edit(renamed={"ant": "emu"}, sha256=sha256(file)),
        Edit(dropped=("bee",), sha256=sha256(once)),
    )
    assert after.replace(labels=before.labels, edits=()) == before  # origin, parity and versions too
    assert edited_file(once, Edit(dropped=("bee",))) == twice


def test_classes_can_be_dropped_one_after_the_other(classifier: Classifier, tmp_path: Path) -> None:
    whole = export_onnx(classifier, tmp_path / "m.onnx").path.read_bytes()
    second, third = classifier.labels[1:3]
    step = edited_file(edited_file(whole, Edit(dropped=(second,))), Edit(dropped=(third,)))
    at_once = edited_file(whole, Edit(dropped=(second, third)))
    for left, right in zip(Predictor(step).answers(PICTURES), Predictor(at_once).answers(PICTURES), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_file_from_before_there_was_an_input_gets_one(file: bytes) -> None:
    old = onnx.load_from_string(before_there_was_an_input(file))
    (tensor,) = [tensor for tensor in old.graph.initializer if tensor.name == THRESHOLD]
    for node in old.graph.node:
        node.input[:] = ["constant_0" if name == THRESHOLD else name for name in node.input]
    tensor.name = "constant_0"
    data = edited_file(old.SerializeToString(), Edit(threshold=0.9))
    wanted = Predictor(edited_file(file, Edit(threshold=0.9)))
    np.testing.assert_array_equal(Predictor(data).answers(PICTURES)[1], wanted.answers(PICTURES)[1])
    assert Predictor(data).answers(PICTURES, threshold=0)[1].sum() > wanted.answers(PICTURES)[1].sum()


def test_a_raw_file_and_one_made_without_pytorch_can_be_edited(
    init: Initialization, drawings: Path, tmp_path: Path
) -> None:
    from fewshot_sdk import adapt_to_onnx

    made = adapt(init, drawings, method="reptile", steps=5)
    raw = export_onnx(made, tmp_path / "raw.onnx", raw=True).path.read_bytes()
    learner = export_learner(init, tmp_path / "learner.onnx").path
    learnt = adapt_to_onnx(learner, drawings, tmp_path / "learnt.onnx").path.read_bytes()
    for data in (raw, learnt):
        assert Predictor(edited_file(data, Edit(dropped=("ant",)))).labels == ("bee", "cat")


def test_a_file_that_is_no_classifier_of_ours_is_refused(init: Initialization, file: bytes, tmp_path: Path) -> None:
    learner = export_learner(init, tmp_path / "learner.onnx").path.read_bytes()
    for data, says in (
        (b"not a model", r"m\.onnx is not an ONNX file"),
        (file[: len(file) // 2], r"m\.onnx is not an ONNX file"),
        (learner, r"m\.onnx is a learner, which knows no classes yet"),
    ):
        with pytest.raises(BundleError, match=says):
            edited_file(data, Edit(threshold=0.5), "m.onnx")
    other = onnx.load_from_string(file)
    head = [node for node in other.graph.node if node.op_type == "Gemm"][-1]
    at = list(other.graph.node).index(head)
    other.graph.node.insert(at + 1, onnx.helper.make_node("Neg", ["negative"], [head.output[0]]))
    head.output[0] = "negative"
    with pytest.raises(BundleError, match=r"m\.onnx: its graph is of another make \(found Neg .* export it again"):
        edited_file(other.SerializeToString(), Edit(dropped=("ant",)), "m.onnx")
    old = onnx.load_from_string(before_there_was_an_input(file))
    (known,) = [node for node in old.graph.node if KNOWN in node.output]
    known.input[0] = "always"
    old.graph.initializer.append(numpy_helper.from_array(np.ones(1, bool), "always"))
    (scalar,) = [tensor for tensor in old.graph.initializer if tensor.name == THRESHOLD]
    scalar.name = "unused"
    for node in old.graph.node:
        node.input[:] = ["unused" if name == THRESHOLD else name for name in node.input]
    with pytest.raises(BundleError, match=r"m\.onnx: its graph is of another make \(found the end"):
        edited_file(old.SerializeToString(), Edit(threshold=0.5), "m.onnx")


def test_a_cut_that_changes_an_answer_is_not_kept(file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    right = editing._Graph._rows
    monkeypatch.setattr(editing._Graph, "_rows", lambda self, name, kept: right(self, name, kept[::-1]))
    with pytest.raises(ParityError, match="the edited file and the one before disagree: a logit differs by"):
        edited_file(file, Edit(dropped=("ant",)))


def test_metadata_of_other_programs_stay(file: bytes) -> None:
    model = onnx.load_from_string(file)
    model.metadata_props.append(onnx.StringStringEntryProto(key="shop", value="3"))
    after = onnx.load_from_string(edited_file(model.SerializeToString(), Edit(renamed={"ant": "emu"})))
    props = {entry.key: entry.value for entry in after.metadata_props}
    assert props["shop"] == "3"
    assert json.loads(props[METADATA_KEY])["labels"] == ["emu", "bee", "cat"]


def test_a_head_that_shares_its_numbers_with_other_layers_is_cut_alone(init: Initialization, tmp_path: Path) -> None:
    """Four filters and four classes, all biases zero: they are stored once."""
    start = fresh(tiny_recipe(backbone=Conv4(filters=4, norm="none")), 0, init.provenance)
    made = adapt(start, draw_folder(tmp_path / "in", LABELS), steps=0, reject_rate=None)
    zeros = {name: tensor * 0 for name, tensor in made.params.items() if name.endswith("bias")}
    made = replace(made, params={**made.params, **zeros})
    whole = export_onnx(made, tmp_path / "m.onnx", heat_map=True).path.read_bytes()
    found = Predictor(edited_file(whole, Edit(dropped=("bee",))))
    wanted = Predictor(export_onnx(edited(made, Edit(dropped=("bee",))), tmp_path / "w.onnx", heat_map=True).path)
    np.testing.assert_array_equal(found.probabilities(PICTURES), wanted.probabilities(PICTURES))
    np.testing.assert_allclose(found.heat_maps(PICTURES), wanted.heat_maps(PICTURES), atol=1e-6)


def test_what_cannot_be_done_is_said(file: bytes) -> None:
    for edit, says in (
        (Edit(), "nothing to change; give --rename OLD=NEW, --drop LABEL or --threshold P"),
        (Edit(renamed={"ants": "emu"}), "no class 'ants'; the classes are ant, bee, cat; did you mean 'ant'?"),
        (Edit(dropped=("dog",)), "no class 'dog'"),
        (Edit(renamed={"ant": "bee"}), "there would be 2 classes bee, and renaming merges none"),
        (Edit(renamed={"ant": " "}), "ant: expected a name that is not empty, found ' '"),
        (Edit(renamed={"ant": "a\nb"}), "ant: expected a name without control characters"),
        (Edit(renamed={"ant": "emu"}, dropped=("ant",)), "ant is to be renamed and dropped"),
        (Edit(dropped=("ant", "bee")), "1 of 3 classes would remain, and a classifier needs 2"),
    ):
        with pytest.raises(ConfigError) as refusal:
            edited_file(file, edit)
        assert says in str(refusal.value)
