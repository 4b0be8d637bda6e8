from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk import adapt, export_onnx
from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.runtime import streaming
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.runtime.streaming import stream
from tests.conftest import draw_folder


@pytest.fixture(scope="module")
def classifier(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return adapt(init, draw_folder(tmp_path_factory.mktemp("support")), steps=2, reject_rate=None)


@pytest.fixture(scope="module")
def predictor(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(export_onnx(classifier, tmp_path_factory.mktemp("onnx") / "m.onnx").path)


def drawings(n: int) -> list[Pixels]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (30 + i % 3, 40), np.uint8) for i in range(n)]


@pytest.mark.parametrize("threads", [1, 3])
def test_each_picture_is_answered_as_if_it_were_alone_in_order(predictor: Predictor, threads: int) -> None:
    pictures = drawings(50)
    found = [answer.prediction for answer in stream(predictor, range(50), pictures.__getitem__, threads=threads)]
    assert found == [predictor.predict([picture])[0] for picture in pictures]


def test_pytorch_answers_as_it_does_for_all_at_once(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "AT_ONCE", 16)
    pictures = drawings(40)
    found = [answer.prediction for answer in stream(classifier, pictures, lambda picture: picture)]
    for one, other in zip(found, classifier.predict(pictures), strict=True):
        assert one is not None
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=1e-6)


@pytest.mark.parametrize("kind", ["predictor", "classifier"])
def test_what_cannot_be_read_is_told_in_its_place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    sources: list[Path | Pixels] = [tmp_path / "bad.png", *drawings(2), tmp_path / "gone.png"]
    answers = list(stream(request.getfixturevalue(kind), sources, lambda source: source))
    assert [answer.prediction is None for answer in answers] == [True, False, False, True]
    assert answers[0].error.startswith(f"{tmp_path / 'bad.png'} is not a picture")
    assert answers[3].error.startswith(f"{tmp_path / 'gone.png'}: there is no such file")


def test_only_a_few_pictures_are_read_ahead(predictor: Predictor) -> None:
    (picture,) = drawings(1)
    taken: list[int] = []

    def sources() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    answers = stream(predictor, sources(), lambda _: picture, threads=2)
    next(answers)
    assert len(taken) == 2 * streaming.AHEAD
    answers.close()  # type: ignore[attr-defined]
    assert len(taken) == 2 * streaming.AHEAD
    assert threading.active_count() == 1 or all(not t.name.startswith("ThreadPool") for t in threading.enumerate())
