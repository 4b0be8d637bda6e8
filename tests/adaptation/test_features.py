"""Features computed elsewhere go the way of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fewshot_sdk import Classifier, Predictor, adapt, export_onnx, load, load_classifier, save
from fewshot_sdk.adaptation.adaptation import compare_and_adapt
from fewshot_sdk.adaptation.extension import extend
from fewshot_sdk.adaptation.features import adapt_features, examined_features
from fewshot_sdk.adaptation.methods import Adapter
from fewshot_sdk.artifacts.embeddings import for_rows
from fewshot_sdk.config.backbones import Embeddings
from fewshot_sdk.config.edits import Edit
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.errors import ConfigError, ImageError, SupportError
from fewshot_sdk.images.features import from_arrays
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.runtime.editing import edited_file

Floats = NDArray[np.float64]


def clusters(n: int, classes: int = 3, columns: int = 12, seed: int = 0) -> tuple[Floats, list[str]]:
    """n rows of each class around its own centre."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(classes, columns))
    rows = np.concatenate([centre + 0.4 * rng.normal(size=(n, columns)) for centre in centres])
    return rows, [f"class {i}" for i in range(classes) for _ in range(n)]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return adapt_features(*clusters(8))


def probabilities(classifier: Classifier | Predictor, rows: Floats) -> NDArray[np.float64]:
    return np.array([list(one.probabilities.values()) for one in classifier.predict(list(rows))])


def test_a_probe_on_photos_features_is_the_probe_on_the_pictures() -> None:
    photo = load("photo")
    rng = np.random.default_rng(0)
    size = photo.recipe.preprocessing
    coarse = rng.integers(0, 256, (6, 7, 7, 3), np.uint8)
    images = coarse.repeat(size.height // 7, 1).repeat(size.width // 7, 2)[:, : size.height, : size.width]
    support = SupportSet(labels=("a", "b"), images=images, targets=np.array([0, 0, 0, 1, 1, 1]))
    of_pictures = adapt(photo, support, method="probe", reject_rate=None)
    with one_thread():
        views = Adapter(photo, 2).features(torch.from_numpy(images))[0]  # whole, mirrored and four corners
    table = from_arrays(views.flatten(0, 1).numpy(), ["aaabbb"[i] for i in range(6)] * len(views))
    examined = examined_features(table)
    init = for_rows(table.support(), table.rows, Embeddings(scaling="none"))
    of_rows = compare_and_adapt({"none": init}, examined, method="probe", reject_rate=None).classifier
    np.testing.assert_allclose(
        probabilities(of_rows, views[0].double().numpy()), of_pictures.probabilities(images), atol=1e-5
    )


def test_the_unit_and_the_origin_of_features_do_not_matter() -> None:
    rows, labels = clusters(8)
    new, _ = clusters(3, seed=1)
    plain, other = adapt_features(rows, labels), adapt_features(1000 * rows + 50, labels)
    np.testing.assert_allclose(probabilities(other, 1000 * new + 50), probabilities(plain, new), atol=1e-3)


def test_columns_of_different_units_are_scaled_one_by_one() -> None:
    rows, labels = clusters(8)
    units = np.geomspace(1e-3, 1e3, rows.shape[1])
    units[-1] *= 10
    made = adapt_features(rows * units, labels)
    assert made.config.backbone == Embeddings(scaling="columns")
    new, truth = clusters(20, seed=1)
    assert (
        np.mean([one.nearest == label for one, label in zip(made.predict(list(new * units)), truth, strict=True)]) > 0.9
    )


def test_a_saved_classifier_of_features_is_the_same(classifier: Classifier, tmp_path: Path) -> None:
    again = load_classifier(save(classifier, tmp_path / "saved"))
    assert again.files() == classifier.files()
    assert again.config.calibration is not None
    assert again.config.calibration.curve
    new, _ = clusters(3, seed=1)
    assert again.predict(list(new)) == classifier.predict(list(new))


def test_an_exported_file_takes_features_and_says_unknown(classifier: Classifier, tmp_path: Path) -> None:
    predictor = Predictor(export_onnx(classifier, tmp_path / "model.onnx").path)
    (given,) = predictor._session.get_inputs()
    assert (given.name, given.type, given.shape) == ("features", "tensor(float)", ["batch", 12])
    new, _ = clusters(5, seed=1)
    strange = np.random.default_rng(5).normal(size=(20, 12)) * 3
    for rows in (new, strange):
        ours, theirs = classifier.predict(list(rows)), predictor.predict(list(rows))
        assert [one.label for one in ours] == [one.label for one in theirs]
        np.testing.assert_allclose(probabilities(classifier, rows), probabilities(predictor, rows), atol=1e-5)
    assert np.mean([one.label is None for one in classifier.predict(list(strange))]) > 0.5
    assert all(one.label is not None for one in classifier.predict(list(new)))
    np.testing.assert_allclose(
        predictor.probabilities(new.astype(np.float32)), probabilities(predictor, new), atol=1e-6
    )
    fewer = Predictor(edited_file((tmp_path / "model.onnx").read_bytes(), Edit(dropped=("class 1",))))
    assert fewer.labels == ("class 0", "class 2")


def test_extending_by_rows_is_adapting_to_all_of_them() -> None:
    (old, labels), (more, others) = clusters(6), clusters(5, classes=4, seed=1)
    at_once = adapt_features(np.concatenate([old, more]), labels + others)
    later = extend(adapt_features(old, labels), from_arrays(more, others).support(), {}).classifier
    new, _ = clusters(3, classes=4, seed=2)
    np.testing.assert_allclose(probabilities(later, new), probabilities(at_once, new), atol=1e-6)
    assert later.config.initialization.sha256 == at_once.config.initialization.sha256


def test_what_features_do_not_have_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    rows, labels = clusters(4)
    with pytest.raises(ConfigError, match="no network that steps could move; expected probe, found reptile"):
        adapt_features(rows, labels, method="reptile")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"one small layer, .*leave out --precision"):
        export_onnx(classifier, tmp_path / "model.onnx", precision="int8")
    with pytest.raises(ConfigError, match="heat map"):
        export_onnx(classifier, tmp_path / "model.onnx", heat_map=True)
    with pytest.raises(ImageError, match=r"a row: expected 12 numbers, found 'photo.jpg'; this classifier takes no"):
        classifier.predict(["photo.jpg"])
    with pytest.raises(ImageError, match=r"a row: expected 12 numbers, found float64 \[3\]"):
        classifier.predict([np.zeros(3)])
    for one in ("photo.jpg", b"bytes", tmp_path, np.zeros(12), np.zeros((9, 9, 3), np.uint8)):
        with pytest.raises(ImageError, match="found a single one; put it in a list"):
            classifier.predict(one)  # type: ignore[arg-type]
    with pytest.raises(SupportError, match=r"labels: expected a label for each of 12 rows, found None"):
        adapt_features(rows)
    with pytest.raises(ConfigError, match="method: expected auto, prototypes, probe, reptile, found 'knn'"):
        adapt_features(rows, labels, method="knn")  # type: ignore[arg-type]


def test_rows_may_be_lists() -> None:
    rows, labels = clusters(4)
    lists, arrays = (
        adapt_features(given, labels, method="prototypes", reject_rate=None) for given in (rows.tolist(), rows)
    )
    assert lists.predict(list(rows)) == arrays.predict(list(rows))
