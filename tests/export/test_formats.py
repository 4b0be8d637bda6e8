"""The table of formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_sdk import adapt
from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.errors import ParityError
from fewshot_sdk.export.classifier import ExportSettings
from fewshot_sdk.export.formats import FORMATS, FormatRow, export
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.tables import referred

TOY = FormatRow(title="weights", write="tests.toys.weights_file:write")


@pytest.fixture
def classifier(init: Initialization, drawings: Path) -> Classifier:
    return adapt(init, drawings, method="reptile", steps=2)


def test_every_row_refers_to_a_function() -> None:
    for row in FORMATS.values():
        assert callable(referred(row.write))


@pytest.mark.parametrize("name", ["model.onnx", "model.ONNX", "model", "model.v2"])
def test_any_other_ending_means_onnx(classifier: Classifier, tmp_path: Path, name: str) -> None:
    made = export(classifier, tmp_path / name, ExportSettings(raw=True))
    assert Predictor(made.path).metadata.raw


def test_a_new_format_is_a_row_and_a_module(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, ".weights", TOY)
    made = export(classifier, tmp_path / "model.weights")
    assert made.metadata.parity.max_difference < 1e-6
    assert made.metadata.parity.random_images == 1000


def test_a_disagreement_with_pytorch_names_the_runtime(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, ".weights", TOY)
    monkeypatch.setattr("tests.toys.weights_file.answers", lambda made, pixels: made.probabilities(pixels)[:, ::-1])
    with pytest.raises(ParityError, match="NumPy and PyTorch disagree on support picture"):
        export(classifier, tmp_path / "model.weights")
    assert not (tmp_path / "model.weights").exists()
