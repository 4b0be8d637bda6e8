from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import safetensors.torch
import torch

from fewshot_sdk import Classifier, adapt, load_classifier, save
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.records import Method
from fewshot_sdk.errors import BundleError, ParamsMismatch, SupportError
from fewshot_sdk.images.preprocessing import preprocess
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.storage.files import manifest_of
from tests.conftest import draw_folder, tiny_recipe

METHODS: tuple[Method, ...] = get_args(Method)


@pytest.fixture
def classifier(init: Initialization, drawings: Path) -> Classifier:
    return adapt(init, drawings, steps=60, reject_rate=None)


def test_it_recognizes_its_support_pictures(classifier: Classifier, drawings: Path) -> None:
    said = classifier.predict(sorted((drawings / "bee").iterdir()))
    assert [answer.label for answer in said].count("bee") >= 3  # the network has four filters
    assert all(sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5) for answer in said)
    assert all(answer.probability == max(answer.probabilities.values()) for answer in said)


def test_what_it_says_of_a_picture_depends_on_nothing_else_in_the_batch(classifier: Classifier) -> None:
    images = classifier.support.images
    together = classifier.probabilities(images)
    alone = np.concatenate([classifier.probabilities(images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(classifier.probabilities(images[::-1]), together[::-1], atol=1e-6)


def test_adapting_twice_gives_the_same_bytes(init: Initialization, classifier: Classifier, drawings: Path) -> None:
    assert adapt(init, drawings, steps=60, reject_rate=None).files() == classifier.files()


def test_the_seed_orders_the_mini_batches(init: Initialization, drawings: Path) -> None:
    small = replace(init, recipe=init.recipe.replace(adaptation=init.recipe.adaptation.replace(batch_size=5)))
    first, second = (
        adapt(small, drawings, seed=seed, method="reptile", reject_rate=None).files()["model.safetensors"]
        for seed in (0, 1)
    )
    assert first != second


def test_no_step_leaves_the_weights_alone(init: Initialization, drawings: Path) -> None:
    classifier = adapt(init, drawings, steps=0, reject_rate=None)
    for name, tensor in init.state.params.items():
        assert torch.equal(classifier.params[name], tensor)
    np.testing.assert_allclose(classifier.probabilities(classifier.support.images), 1 / 3)


@pytest.mark.parametrize("n_way", [2, 7, 26])
def test_a_zero_head_serves_any_number_of_classes(init: Initialization, tmp_path: Path, n_way: int) -> None:
    folder = draw_folder(tmp_path / "many", tuple(f"c{i:02}" for i in range(n_way)), shots=1)
    classifier = adapt(init, folder, steps=5, reject_rate=None)
    assert classifier.probabilities(classifier.support.images).shape == (n_way, n_way)


@pytest.mark.parametrize("method", METHODS)
def test_a_dense_head_serves_another_number_of_classes_too(
    init: Initialization, drawings: Path, method: Method
) -> None:
    dense = fresh(tiny_recipe(head="dense"), 0, init.provenance)
    classifier = adapt(dense, drawings, method=method, reject_rate=None)
    assert classifier.params["head.bias"].shape == (3,)
    assert classifier.probabilities(classifier.support.images).shape == (12, 3)


def test_a_thousand_classes_of_one_drawing_and_two_classes(init: Initialization) -> None:
    for n_way in (2, 1000):
        images = np.random.default_rng(0).integers(0, 256, (n_way, 16, 16, 1), np.uint8)
        labels = tuple(f"c{i:04}" for i in range(n_way))
        support = SupportSet(labels=labels, images=images, targets=np.arange(n_way))
        for method in METHODS:
            classifier = adapt(init, support, method=method, steps=2, reject_rate=None)
            assert classifier.probabilities(images).shape == (n_way, n_way)
            if method == "prototypes":  # each drawing is its class's mean
                assert (classifier.probabilities(images).argmax(1) == support.targets).mean() > 0.9


def test_a_folder_from_before_there_were_methods_is_loaded(classifier: Classifier, tmp_path: Path) -> None:
    folder = save(classifier, tmp_path / "model")
    files = classifier.files()
    config = json.loads(files["config.json"])
    for name in ("method", "temperature", "threshold", "comparison", "calibration"):
        del config[name]
    old = {**files, "config.json": json.dumps(config).encode()}
    (folder / "config.json").write_bytes(old["config.json"])
    (folder / "manifest.json").write_bytes(manifest_of(old))
    assert load_classifier(folder).config == classifier.config


def test_a_classifier_from_before_limits_on_logits_still_judges_by_its_threshold(classifier: Classifier) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 1), np.uint8)
    pixels = np.stack([preprocess(image, classifier.config.preprocessing) for image in images])
    best = classifier.probabilities(pixels).max(1)
    threshold = float(np.median(best))
    old = replace(classifier, config=classifier.config.replace(threshold=threshold))
    assert "least_score" not in json.loads(old.files()["config.json"])
    assert (old.answers(pixels)[1] == (best >= threshold)).all()
    assert [answer.label is None for answer in old.predict(list(images))] == (best < threshold).tolist()


def test_it_names_its_origin(classifier: Classifier, init: Initialization) -> None:
    origin = classifier.config.initialization
    assert (origin.name, origin.sha256) == ("glyphs", init.sha256)
    assert origin.provenance == init.provenance
    assert init.sha256 in classifier.files()["README.md"].decode()


def test_what_was_saved_is_loaded(classifier: Classifier, tmp_path: Path) -> None:
    found = load_classifier(save(classifier, tmp_path / "model"))
    assert found.files() == classifier.files()
    images = classifier.support.images
    np.testing.assert_array_equal(found.probabilities(images), classifier.probabilities(images))


def test_an_initialization_is_no_classifier_and_the_other_way_round(
    init: Initialization, classifier: Classifier, tmp_path: Path
) -> None:
    from fewshot_sdk import load

    with pytest.raises(
        BundleError, match=r"support\.safetensors is missing; expected a folder made by `fewshot adapt`"
    ):
        load_classifier(save(init, tmp_path / "init"))
    with pytest.raises(BundleError, match=r"inner_state\.safetensors is missing; expected an initialization"):
        load(save(classifier, tmp_path / "model"))


def test_a_wrong_tensor_or_target_is_named(classifier: Classifier, tmp_path: Path) -> None:
    folder = save(classifier, tmp_path / "model")
    good = classifier.files()
    for name, data, says in (
        ("model.safetensors", {**classifier.params, "head.bias": torch.zeros(4)}, r"'head.bias': expected .* \[3\]"),
        ("support.safetensors", {"targets": torch.zeros(2).long()}, "'images' is missing"),
        (
            "support.safetensors",
            {"images": torch.zeros(2, 16, 16, 1).byte(), "targets": torch.tensor([0, 3])},
            "targets must be from 0 to 2",
        ),
    ):
        bad = {**good, name: safetensors.torch.save(data)}
        (folder / name).write_bytes(bad[name])
        (folder / "manifest.json").write_bytes(manifest_of(bad))
        with pytest.raises(ParamsMismatch, match=says):
            load_classifier(folder)
        (folder / name).write_bytes(good[name])


def test_labels_may_be_written_in_any_script(init: Initialization, tmp_path: Path) -> None:
    labels = ("été", "猫", "🍎 rot", 'say "hi"')
    classifier = adapt(init, draw_folder(tmp_path / "in", labels, shots=1), steps=1, reject_rate=None)
    folder = save(classifier, tmp_path / "model")
    assert set(load_classifier(folder).labels) == set(labels)
    assert set(json.loads((folder / "config.json").read_text(encoding="utf-8"))["labels"]) == set(labels)


def test_a_bad_picture_stops_adapting_and_is_named(init: Initialization, drawings: Path) -> None:
    (drawings / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SupportError, match=r"broken\.png (cannot be decoded|is not a picture)"):
        adapt(init, drawings, method="reptile", reject_rate=None)


def test_no_picture_is_no_prediction(classifier: Classifier) -> None:
    assert classifier.predict([]) == []
