"""Editing a classifier's folder: what remains answers as before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_sdk import Classifier, Delta, DeltaPredictor, adapt, load_classifier, save
from fewshot_sdk.adaptation.extension import extend
from fewshot_sdk.artifacts.editing import edited, edited_files
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.edits import Edit, renamings
from fewshot_sdk.config.records import Confusion, Method, Precision
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.storage.deltas import STEP
from fewshot_sdk.storage.files import read_folder, sha256, write_folder
from fewshot_sdk.storage.tensors import from_bytes, to_bytes
from tests.adaptation.test_extension import photographs
from tests.adaptation.test_methods import of_tails
from tests.conftest import draw_folder, tiny_recipe

LABELS = ("ant", "bee", "cat", "dog")


@pytest.fixture
def classifier(init: Initialization, tmp_path: Path) -> Classifier:
    return adapt(init, draw_folder(tmp_path / "in", LABELS), method="reptile", steps=10)


def logits(classifier: Classifier, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = classifier.network()(torch.from_numpy(images))
    return found


@pytest.mark.parametrize("method", ["prototypes", "probe", "reptile"])
def test_the_classes_that_remain_keep_their_weights_to_the_bit_and_their_logits(
    init: Initialization, tmp_path: Path, method: Method
) -> None:
    made = adapt(init, draw_folder(tmp_path / "in", LABELS), method=method)
    less = edited(made, Edit(dropped=("bee",)))
    assert less.labels == ("ant", "cat", "dog")
    for name, tensor in made.params.items():
        wanted = tensor[[0, 2, 3]] if name.startswith("head.") else tensor
        torch.testing.assert_close(less.params[name], wanted, rtol=0, atol=0)
    images = made.support.images
    torch.testing.assert_close(logits(less, images), logits(made, images)[:, [0, 2, 3]], rtol=1e-5, atol=1e-5)


def test_the_pictures_of_a_dropped_class_go_and_the_others_keep_their_labels(classifier: Classifier) -> None:
    less = edited(classifier, Edit(dropped=("bee",), renamed={"dog": "ant", "ant": "dog"}))
    assert less.support.labels == less.labels == ("dog", "cat", "ant")
    old = classifier.support
    assert less.support.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_array_equal(less.support.images, old.images[old.targets != 1])


def test_a_score_that_is_a_cosine_is_that_of_before(init: Initialization) -> None:
    made = adapt(of_tails(init, "statistics"), photographs("abcd", n=4), method="prototypes")
    assert made.config.score == "cosine"
    less = edited(made, Edit(dropped=("b",)))
    images = made.support.images
    before, after = made.cosine(), less.cosine()
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after.centre, before.centre)
    np.testing.assert_array_equal(after.shift, before.shift[[0, 2, 3]])
    np.testing.assert_array_equal(after.scale, before.scale[[0, 2, 3]])
    mine = made.support.targets != 1
    assert less.answers(images[mine])[1].sum() == made.answers(images[mine])[1].sum()


def test_sums_stay_with_their_classes(init: Initialization, tmp_path: Path) -> None:
    made = adapt(init, draw_folder(tmp_path / "in", LABELS), method="prototypes", reject_rate=None)
    lean = load_classifier(save(edited(made, Edit(dropped=("bee",))).without_pictures(), tmp_path / "lean"))
    more = draw_folder(tmp_path / "more", ("ant",), shots=1, first=4)
    grown = extend(lean, more, {}).classifier
    assert grown.class_sums is not None
    assert grown.class_sums["counts"].tolist() == [5, 4, 4]
    whole = extend(made.without_pictures(), more, {}).classifier
    rows = whole.probabilities(made.support.images)[:, [0, 2, 3]]
    wanted = rows / rows.sum(1, keepdims=True)
    np.testing.assert_allclose(grown.probabilities(made.support.images), wanted, rtol=1e-4, atol=1e-6)


def test_what_was_measured_with_dropped_classes_is_no_longer_stated(classifier: Classifier) -> None:
    assert classifier.config.calibration is not None
    less = edited(classifier, Edit(dropped=("bee",), sha256="ab" * 32))
    assert less.config.calibration is None
    assert less.config.comparison == ()
    assert less.config.temperature == classifier.config.temperature
    assert less.config.least_score == classifier.config.least_score
    card = less.files()["README.md"].decode()
    assert "**Cannot tell**: classes were dropped since it was adapted; other pictures would tell." in card
    assert f"* dropped bee: `{'ab' * 32}`" in card
    assert "It was tested with the classes that were dropped, so no accuracy is stated" in card


def test_new_names_keep_what_was_measured(classifier: Classifier) -> None:
    found = classifier.config.calibration
    assert found is not None
    mixed = found.replace(confused=Confusion(first="ant", second="cat", pictures=3, of=8))
    made = replace(classifier, config=classifier.config.replace(calibration=mixed))
    after = edited(made, Edit(renamed={"ant": "emu"})).config.calibration
    assert after == mixed.replace(confused=Confusion(first="emu", second="cat", pictures=3, of=8))


def test_a_threshold_is_on_the_card_beside_the_limit_of_the_score(classifier: Classifier) -> None:
    card = edited(classifier, Edit(threshold=0.6)).files()["README.md"].decode()
    assert "A picture under 60.0% is `unknown`, too; the shares below were measured without that." in card
    assert "| `unknown` under a probability of | 60.0% |" in card
    assert "| `unknown` under a highest logit of |" in card
    off = edited(edited(classifier, Edit(threshold=0.6)), Edit(threshold=0.0))
    assert "under a probability" not in off.files()["README.md"].decode()


def test_an_edited_folder_loads_and_records_the_manifest_before(classifier: Classifier, tmp_path: Path) -> None:
    folder = save(classifier, tmp_path / "model")
    before = sha256((folder / "manifest.json").read_bytes())
    contents = edited_files(read_folder(folder), folder, Edit(renamed={"ant": "emu"}, dropped=("dog",)))
    again = load_classifier(write_folder(tmp_path / "new", contents))
    assert again.labels == ("emu", "bee", "cat")
    assert again.config.edits == (Edit(renamed={"ant": "emu"}, dropped=("dog",), sha256=before),)
    assert again.config.initialization == classifier.config.initialization


def test_signature_and_report_go_with_what_they_were_about(classifier: Classifier, tmp_path: Path) -> None:
    files = {**classifier.files(), "model.sig": b"signed", "report.html": b"page", "notes.txt": b"mine"}
    names = [set(edited_files(files, tmp_path, edit)) for edit in (Edit(threshold=0.5), Edit(renamed={"ant": "emu"}))]
    assert names == [set(files) - {"model.sig"}, set(files) - {"model.sig", "report.html"}]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_delta_stays_a_delta_of_the_same_numbers(
    init: Initialization, classifier: Classifier, saved: Path, tmp_path: Path, precision: Precision
) -> None:
    folder = save(Delta(classifier=classifier, base=init, precision=precision), tmp_path / "delta")
    before = load_classifier(folder, init)
    named = edited_files(read_folder(folder), folder, Edit(renamed={"ant": "emu"}, threshold=0.3), init)
    assert named["delta.safetensors"] == (folder / "delta.safetensors").read_bytes()
    less = edited_files(read_folder(folder), folder, Edit(dropped=("bee",)), init)
    assert "model.safetensors" not in less
    after = load_classifier(write_folder(tmp_path / "less", less), init)
    for name, tensor in before.params.items():
        wanted = tensor[[0, 2, 3]] if name.startswith("head.") else tensor
        torch.testing.assert_close(after.params[name], wanted, rtol=0, atol=0)
    many = DeltaPredictor(saved)
    many.add("less", tmp_path / "less")
    assert many.labels("less") == ("ant", "cat", "dog")


def test_a_delta_is_not_encoded_anew(init: Initialization, classifier: Classifier, tmp_path: Path) -> None:
    delta = Delta(classifier=classifier, base=init, precision="float16").files()
    step = from_bytes(delta[STEP], STEP)
    step["conv1.weight"][:] = 0  # as another program might write it
    folder = write_folder(tmp_path / "delta", {**delta, STEP: to_bytes(step)})
    for edit in (Edit(threshold=0.5), Edit(dropped=("bee",))):
        found = from_bytes(edited_files(read_folder(folder), folder, edit, init)[STEP], STEP)
        np.testing.assert_array_equal(found["conv1.weight"], step["conv1.weight"])


@pytest.mark.parametrize("n_way", [4, 3])
def test_a_delta_on_a_dense_head_of_the_size_before_or_after_is_encoded_anew(
    init: Initialization, tmp_path: Path, n_way: int
) -> None:
    recipe = tiny_recipe(head="dense")
    dense = fresh(recipe.replace(meta=recipe.meta.replace(n_way=n_way)), 0, init.provenance)
    made = adapt(dense, draw_folder(tmp_path / "in", LABELS), method="reptile", steps=5, reject_rate=None)
    folder = save(Delta(classifier=made, base=dense, precision="float32"), tmp_path / "delta")
    less = edited_files(read_folder(folder), folder, Edit(dropped=("bee",)), dense)
    after = load_classifier(write_folder(tmp_path / "less", less), dense)
    torch.testing.assert_close(after.params["head.weight"], made.params["head.weight"][[0, 2, 3]], rtol=0, atol=0)


def test_a_folder_of_another_kind_is_refused(init: Initialization, saved: Path) -> None:
    with pytest.raises(BundleError, match=r"support\.safetensors is missing; expected a folder made by"):
        edited_files(read_folder(saved), saved, Edit(threshold=0.5))


def test_renamings_may_have_equals_signs_in_a_known_label() -> None:
    assert renamings(["a=b", "c=d"], ("a", "c")) == {"a": "b", "c": "d"}
    assert renamings(["x=1=y"], ("x=1",)) == {"x=1": "y"}
    assert renamings(["x=1=y"], ("x",)) == {"x": "1=y"}
    with pytest.raises(ConfigError, match="--rename: expected OLD=NEW, found 'ab'"):
        renamings(["ab"], ("a",))
    with pytest.raises(ConfigError, match="--rename: two new names for a, b and c; leave out one"):
        renamings(["a=b", "a=c"], ("a",))
