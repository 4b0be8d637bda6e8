"""One Predictor for threads, copies, pickles and other processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from fewshot_sdk import Learner, Predictor, adapt, export_learner, export_onnx, load_classifier, save
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.errors import BundleError
from fewshot_sdk.export import checks
from fewshot_sdk.runtime import session
from fewshot_sdk.runtime.regressor import NumberPredictor
from tests.conftest import draw_folder

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), np.uint8)
BOUND = 120  # seconds, against hanging


@pytest.fixture(scope="module")
def folder(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("sharing")
    return save(adapt(init, draw_folder(where / "in"), method="prototypes"), where / "classifier")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "RANDOM", 20)
        return export_onnx(load_classifier(folder), folder.parent / "model.onnx").path


@pytest.fixture(params=[1, 3])
def predictor(request: pytest.FixtureRequest, model: Path) -> Predictor:
    return Predictor(model, threads=request.param, threshold=0.3)


def answers(predictor: Predictor) -> NDArray[np.float32]:
    return predictor.probabilities(PICTURES)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of each file that onnxruntime opens from now on."""
    opened, real = list[str](), session._open

    def opens(data: bytes, name: str, threads: int) -> onnxruntime.InferenceSession:
        opened.append(name)
        return real(data, name, threads)

    monkeypatch.setattr(session, "_open", opens)
    return opened


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_answers_like_the_predictor(predictor: Predictor, again: Callable[[Predictor], Predictor]) -> None:
    other = again(predictor)
    assert other.labels == predictor.labels
    assert other.predict(list(PICTURES)) == predictor.predict(list(PICTURES))


def test_a_pickle_of_a_file_holds_no_weights_and_one_of_bytes_does(model: Path) -> None:
    size = model.stat().st_size
    assert len(pickle.dumps(Predictor(model))) < size / 2
    stored = pickle.dumps(Predictor(model.read_bytes()))
    assert len(stored) > size
    np.testing.assert_array_equal(answers(pickle.loads(stored)), answers(Predictor(model)))


def test_a_relative_path_is_found_from_another_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    stored = pickle.dumps(Predictor(model.name))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(answers(pickle.loads(stored)), answers(Predictor(model)))


def test_a_file_that_changed_or_went_is_named(model: Path, tmp_path: Path) -> None:
    moving = tmp_path / "moving.onnx"
    moving.write_bytes(model.read_bytes())
    stored = pickle.dumps(Predictor(moving))
    moving.write_bytes(model.read_bytes() + b"\0\0")
    with pytest.raises(BundleError, match=r"moving\.onnx has changed since it was opened: .*open it again"):
        answers(pickle.loads(stored))
    moving.unlink()
    with pytest.raises(BundleError, match=r"moving\.onnx: no such file or directory; it was opened before"):
        answers(pickle.loads(stored))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_process_can_use_its_parents_predictor(predictor: Predictor, start: str) -> None:
    expected = answers(predictor)
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        np.testing.assert_array_equal(pool.submit(answers, predictor).result(BOUND), expected)


def test_a_forked_process_opens_the_one_that_it_inherits_for_itself(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, opened = answers(predictor), counted(monkeypatch)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=lambda: queue.put((answers(predictor), answers(predictor), len(opened))))
    process.start()
    process.join(BOUND)
    assert process.exitcode == 0
    first, second, times = queue.get()
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    assert times == 1  # with its parent's, onnxruntime may crash, or wait for threads that did not come along
    assert not opened


def test_threads_share_one_predictor(predictor: Predictor) -> None:
    expected = answers(predictor)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: answers(predictor), range(20)):
            np.testing.assert_array_equal(found, expected)


def test_threads_open_an_unpickled_predictor_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, opened = pickle.dumps(Predictor(model)), counted(monkeypatch)
    again = pickle.loads(stored)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: answers(again), range(8)))
    assert len(opened) == 1


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib_takes_a_predictor_along(predictor: Predictor, backend: str) -> None:
    joblib = pytest.importorskip("joblib")
    jobs = (joblib.delayed(answers)(predictor) for _ in range(3))
    for found in joblib.Parallel(n_jobs=2, backend=backend, timeout=BOUND)(jobs):
        np.testing.assert_array_equal(found, answers(predictor))


def test_a_learner_and_a_predictor_of_numbers_can_be_pickled(
    init: Initialization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewshot_sdk.adaptation.regressor import adapt_regressor
    from fewshot_sdk.artifacts.initialization import of_numbers
    from fewshot_sdk.artifacts.opening import load_any
    from fewshot_sdk.export.regressor import export_regressor

    learner = Learner(export_learner(init, tmp_path / "learner.onnx").path)
    again = pickle.loads(pickle.dumps(learner))
    images, targets = PICTURES[:, :16, :16, :1], np.array([0, 0, 0, 1, 1, 1])
    found = [one.adapt(images, targets, images, steps=1).probabilities for one in (learner, again)]
    np.testing.assert_array_equal(found[0], found[1])
    sine = load_any("sine")
    assert of_numbers(sine)
    points = np.array([[0, 0], [1, 1], [2, 0]], np.float32)
    curve = export_regressor(adapt_regressor(sine, points, steps=1), tmp_path / "curve.onnx").path
    numbers = NumberPredictor(curve)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(numbers)).predict(points[:, :1]), numbers.predict(points[:, :1])
    )


def test_a_classifier_in_pytorch_can_be_pickled_and_copied(folder: Path) -> None:
    classifier = load_classifier(folder)
    for other in (pickle.loads(pickle.dumps(classifier)), copy.deepcopy(classifier)):
        assert other.files() == classifier.files()
        assert other.predict(list(PICTURES)) == classifier.predict(list(PICTURES))
