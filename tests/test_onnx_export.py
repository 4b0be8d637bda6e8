from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from fewshot_sdk import Classifier, Predictor, adapt, export_onnx
from fewshot_sdk.checkpoint import Initialization
from fewshot_sdk.errors import BundleError, ExportError, ImageError, OutputExists
from fewshot_sdk.onnx_export import OPSET, TOLERANCE
from fewshot_sdk.runtime import METADATA_KEY
from tests.conftest import draw_folder


@pytest.fixture(scope="module")
def classifier(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return adapt(init, draw_folder(tmp_path_factory.mktemp("support") / "in"))


@pytest.fixture(scope="module")
def exported(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(classifier, tmp_path_factory.mktemp("export") / "model.onnx").path


def test_it_is_one_self_contained_file_with_a_free_batch_size(exported: Path) -> None:
    model = onnx.load(str(exported), load_external_data=False)
    assert [file.name for file in exported.parent.iterdir()] == ["model.onnx"]
    assert not any(t.HasField("data_location") and t.data_location for t in model.graph.initializer)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    (images,) = model.graph.input
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sizes = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert sizes == ["batch", 16, 16, 1]


def test_it_names_labels_preprocessing_origin_and_parity(exported: Path, classifier: Classifier) -> None:
    (prop,) = [p for p in onnx.load(str(exported)).metadata_props if p.key == METADATA_KEY]
    said = json.loads(prop.value)
    assert said["labels"] == ["ant", "bee", "cat"]
    assert said["preprocessing"]["height"] == 16
    assert said["initialization"]["sha256"] == classifier.config.initialization.sha256
    assert said["parity"]["images"] == 12
    assert 0 <= said["parity"]["max_difference"] <= TOLERANCE


@pytest.mark.parametrize("n", [1, 2, 7, 64, 130])
def test_it_says_what_pytorch_says_at_any_batch_size(exported: Path, classifier: Classifier, n: int) -> None:
    images = np.random.default_rng(n).integers(0, 256, (n, 16, 16, 1), np.uint8)
    np.testing.assert_allclose(
        Predictor(exported).probabilities(images), classifier.probabilities(images), atol=TOLERANCE
    )


def test_one_picture_alone_and_among_others_gets_the_same_answer(exported: Path) -> None:
    predictor = Predictor(exported)
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 1), np.uint8)
    alone = predictor.probabilities(images[5:6])
    np.testing.assert_allclose(predictor.probabilities(images)[5:6], alone, atol=1e-6)


def test_pictures_are_preprocessed_as_for_adapting(exported: Path, classifier: Classifier, tmp_path: Path) -> None:
    files = sorted(draw_folder(tmp_path / "new", first=4).glob("*/*.png"))
    ours, theirs = Predictor(exported).predict(files), classifier.predict(files)
    assert [answer.label for answer in ours] == [answer.label for answer in theirs]
    for left, right in zip(ours, theirs, strict=True):
        assert left.probabilities == pytest.approx(right.probabilities, abs=TOLERANCE)


def test_the_same_classifier_gives_the_same_file(exported: Path, classifier: Classifier, tmp_path: Path) -> None:
    again = export_onnx(classifier, tmp_path / "again.onnx")
    assert again.path.read_bytes() == exported.read_bytes()
    assert again.size == exported.stat().st_size


def test_an_export_that_disagrees_is_not_kept(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Classifier.probabilities
    monkeypatch.setattr(Classifier, "probabilities", lambda self, pixels: right(self, pixels)[:, ::-1])
    with pytest.raises(
        ExportError, match=r"disagree on support image \d+ \(\w+\): a probability differs by .* no file"
    ):
        export_onnx(classifier, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_left_alone(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"mine")
    with pytest.raises(OutputExists):
        export_onnx(classifier, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"mine"


def test_predicting_imports_neither_torch_nor_onnx(exported: Path, tmp_path: Path) -> None:
    picture = draw_folder(tmp_path / "new") / "ant" / "0.png"
    program = f"""
import sys
sys.modules["torch"] = sys.modules["onnx"] = sys.modules["huggingface_hub"] = None  # importing them now fails
import fewshot_sdk
print(fewshot_sdk.Predictor({str(exported)!r}).predict([{str(picture)!r}])[0].label)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("ant", "bee", "cat")


def test_what_is_no_onnx_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"model\.onnx is not an ONNX file that can be run"):
        Predictor(tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="no such file"):
        Predictor(tmp_path / "nowhere.onnx")


def test_somebody_elses_onnx_file_is_told(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(BundleError, match=r"other\.onnx is an ONNX file, but not one made by `fewshot export`"):
        Predictor(tmp_path / "other.onnx")


def test_metadata_that_were_changed_are_told(exported: Path) -> None:
    model = onnx.load(str(exported))
    onnx.helper.set_model_props(model, {METADATA_KEY: '{"labels": 3}'})
    with pytest.raises(BundleError, match="its metadata cannot be used"):
        Predictor(model.SerializeToString())


def test_a_bad_picture_is_named(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        Predictor(exported).predict([tmp_path / "nowhere.png"])
