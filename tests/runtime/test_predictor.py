"""The threshold as an optional input of an exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from fewshot_sdk import Classifier, Delta, DeltaPredictor, Predictor, adapt, export_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.onnx_file import INPUT, KNOWN, THRESHOLD
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.export import checks
from fewshot_sdk.export.checks import Precision
from fewshot_sdk.runtime.session import opened
from tests.conftest import draw_folder

PICTURES = np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3), np.uint8)


@pytest.fixture(scope="module")
def classifier(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return adapt(init, draw_folder(tmp_path_factory.mktemp("support") / "in"), method="reptile", steps=20)


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def exported(request: pytest.FixtureRequest, classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    precision: Precision = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "RANDOM", 20)
        path = tmp_path_factory.mktemp("export") / "model.onnx"
        return export_onnx(classifier, path, precision=precision, max_drop=1).path


def middle(predictor: Predictor) -> float:
    """A threshold that half of the known pictures are under."""
    rows, known = predictor.answers(PICTURES)
    return float(np.median(rows.max(1)[known]))


def expected(predictor: Predictor, threshold: float) -> NDArray[np.bool_]:
    rows, known = predictor.answers(PICTURES)
    found: NDArray[np.bool_] = known & (rows.max(1) >= np.float32(threshold))
    return found


def test_a_threshold_of_the_caller_is_the_one_in_force(exported: Path) -> None:
    plain = Predictor(exported)
    threshold = middle(plain)
    wanted = expected(plain, threshold)
    assert 0 < wanted.sum() < plain.answers(PICTURES)[1].sum()
    strict = Predictor(exported, threshold=threshold)
    rows, known = strict.answers(PICTURES)
    np.testing.assert_array_equal(known, wanted)
    np.testing.assert_array_equal(rows, plain.probabilities(PICTURES))
    np.testing.assert_array_equal(plain.answers(PICTURES, threshold=threshold)[1], wanted)
    found = [prediction.label is not None for prediction in plain.predict(list(PICTURES), threshold=threshold)]
    assert found == wanted.tolist()
    np.testing.assert_array_equal(strict.answers(PICTURES, threshold=0)[1], plain.answers(PICTURES)[1])


def test_other_programs_may_leave_the_threshold_out_or_pass_a_scalar(exported: Path) -> None:
    session, plain = opened(exported, 1).session, Predictor(exported)
    assert [given.name for given in session.get_inputs()] == [INPUT]
    assert [(i.name, i.type, i.shape) for i in session.get_overridable_initializers()] == [
        (THRESHOLD, "tensor(float)", [])
    ]
    np.testing.assert_array_equal(session.run([KNOWN], {INPUT: PICTURES})[0], plain.answers(PICTURES)[1])
    given = {INPUT: PICTURES, THRESHOLD: np.array(middle(plain), np.float32)}
    np.testing.assert_array_equal(session.run([KNOWN], given)[0], expected(plain, middle(plain)))


def before_there_was_an_input(file: bytes) -> bytes:
    """The same file with the threshold as a constant, as it used to be written."""
    model = onnx.load_from_string(file)
    model.graph.input.remove(*[given for given in model.graph.input if given.name == THRESHOLD])
    data: bytes = model.SerializeToString()
    return data


def test_a_file_without_that_input_answers_alike(exported: Path) -> None:
    plain, old = Predictor(exported), Predictor(before_there_was_an_input(exported.read_bytes()))
    threshold = middle(plain)
    np.testing.assert_array_equal(old.answers(PICTURES)[1], plain.answers(PICTURES)[1])
    np.testing.assert_array_equal(old.answers(PICTURES, threshold=threshold)[1], expected(plain, threshold))


def test_a_constant_threshold_cannot_be_lowered(classifier: Classifier, tmp_path: Path) -> None:
    strict = Classifier(**{**vars(classifier), "config": classifier.config.replace(threshold=0.5)})
    old = Predictor(before_there_was_an_input(export_onnx(strict, tmp_path / "m.onnx").path.read_bytes()))
    with pytest.raises(BundleError, match=r"the threshold 0.5 is fixed in this older file, and cannot become 0.25"):
        old.answers(PICTURES, threshold=0.25)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_probability(exported: Path, classifier: Classifier, threshold: float) -> None:
    for ask in (
        lambda: Predictor(exported, threshold=threshold),
        lambda: Predictor(exported).answers(PICTURES, threshold=threshold),
        lambda: classifier.predict(list(PICTURES[:1]), threshold=threshold),
    ):
        with pytest.raises(ConfigError, match="threshold: expected a probability from 0 to 1, found"):
            ask()


def test_a_folder_and_a_delta_take_a_threshold_too(
    classifier: Classifier, init: Initialization, saved: Path, tmp_path: Path
) -> None:
    pictures = [picture.squeeze() for picture in classifier.support.images]
    top = [prediction.probability for prediction in classifier.predict(pictures)]
    threshold = float(np.median(top))
    wanted = [
        prediction.label is not None and prediction.probability >= np.float32(threshold)
        for prediction in classifier.predict(pictures)
    ]
    assert 0 < sum(wanted) < len(wanted)
    found = classifier.predict(pictures, threshold=threshold)
    assert [prediction.label is not None for prediction in found] == wanted
    many = DeltaPredictor(saved)
    many.add("it", save(Delta(classifier=classifier, base=init, precision="float32"), tmp_path / "delta"))
    off = {abs(probability - threshold) < 1e-5 for probability in top}
    again = [prediction.label is not None for prediction in many.predict("it", pictures, threshold=threshold)]
    assert sum(a != b for a, b in zip(again, wanted, strict=True)) <= sum(off)
