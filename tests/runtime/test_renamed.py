"""What was made from the initialization that was once called `photo` still loads, exports and predicts.

tests/golden_photo was written before the renaming: a delta on that initialization, and a classifier's folder, its fp32
and its int8 file, from a small network of the same kind; expected.json has the probabilities at that time.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_sdk import DeltaPredictor, Predictor, export_onnx, load, load_classifier
from fewshot_sdk.errors import BundleError
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.runtime.lineage import lineage
from fewshot_sdk.storage.files import MANIFEST, manifest_of
from tests.conftest import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden_photo"


def pictures(side: int) -> Pixels:
    coarse = np.random.default_rng(2).integers(0, 256, (3, 7, 7, 3), np.uint8)
    return coarse.repeat(side // 7, 1).repeat(side // 7, 2)


def expected(name: str) -> NDArray[np.float64]:
    return np.array(json.loads((GOLDEN / "expected.json").read_text())[name])


def test_a_delta_finds_its_initialization_under_its_new_name() -> None:
    found = load_classifier(GOLDEN / "delta")
    assert found.config.initialization.name == "photo"
    assert found.config.initialization.sha256 == load("mini-imagenet-residual").sha256
    np.testing.assert_allclose(found.probabilities(pictures(84)), expected("delta"), atol=1e-4)


def test_without_pytorch_a_delta_is_served_on_the_initialization_by_its_new_name() -> None:
    served = DeltaPredictor("mini-imagenet-residual")
    served.add("mine", GOLDEN / "delta")
    np.testing.assert_allclose(served.probabilities("mine", pictures(84)), expected("delta"), atol=1e-4)
    with pytest.raises(BundleError, match="was adapted from photo with sha256 5c8539413de9626c"):
        DeltaPredictor("photo").add("mine", GOLDEN / "delta")


def test_a_delta_on_an_initialization_that_is_nowhere_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "delta"
    shutil.copytree(GOLDEN / "delta", folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("5c8539413de9626c", "0" * 16).replace('"photo"', '"nobodys"'))
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != MANIFEST}
    (folder / MANIFEST).write_bytes(manifest_of(files))
    with pytest.raises(BundleError, match=r"is a delta on nobodys \(sha256 0000000000000000...\)"):
        load_classifier(folder)


def test_a_classifier_loads_predicts_and_is_exported(tmp_path: Path) -> None:
    found = load_classifier(GOLDEN / "classifier")
    np.testing.assert_allclose(found.probabilities(pictures(28)), expected("classifier"), atol=1e-5)
    export_onnx(found, tmp_path / "again.onnx")
    again = Predictor(tmp_path / "again.onnx").probabilities(pictures(28))
    np.testing.assert_allclose(again, expected("classifier"), atol=1e-4)


@pytest.mark.parametrize(("name", "allowed"), [("classifier.onnx", 1e-5), ("classifier.int8.onnx", 2e-2)])
def test_an_exported_file_predicts(name: str, allowed: float) -> None:
    found = Predictor(GOLDEN / name).probabilities(pictures(28))
    np.testing.assert_allclose(found, expected(name), atol=allowed)
    assert lineage(GOLDEN / name).initialization == "photo"
