"""Predictions for many pictures, one after another, in memory that does not grow with their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.engine.processors import cores
from fewshot_sdk.errors import ImageError
from fewshot_sdk.images.preprocessing import Picture, Pixels, preprocess
from fewshot_sdk.runtime.predictions import Prediction, to_predictions
from fewshot_sdk.runtime.predictor import Predictor

S = TypeVar("S")
R = TypeVar("R")
MOST_THREADS = 8  # each may hold a picture of 50 million pixels
AHEAD = 4  # pictures read ahead for each thread
LARGE = 128 * 128  # pixels
AT_ONCE, FEW = 256, 32  # pictures that PyTorch gets at once: multiples of the classifier's own batches


class Adapted(Protocol):
    """A classifier in PyTorch; recognizing it does not import PyTorch."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the outputs."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's pixels."""

    def answers(self, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probabilities (n, n_way), and whether each picture seems to show a known class, (n,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer(Generic[S]):
    """What was found for `source`: a prediction, or why there is none.

    pixels: what the network saw, if PyTorch runs it.
    """

    source: S
    prediction: Prediction | None = None
    error: str = ""
    pixels: Pixels | None = None


def stream(
    model: Predictor | Adapted, sources: Iterable[S], read: Callable[[S], Picture], *, threads: int | None = None
) -> Iterator[Answer[S]]:
    """An answer for each source, in order; pictures are read ahead by several threads.

    The prediction of a file in onnxruntime does not depend on the other pictures, because each is given to it alone;
    batches gain nothing there. read: turns a source into a picture, or raises ImageError.
    threads: by default one for each core, at most 8.
    """
    workers = threads or min(MOST_THREADS, cores())
    if isinstance(model, Predictor):
        return _mapped(lambda source: _predicted(model, source, read), sources, workers)
    seen = _mapped(lambda source: _seen(model, source, read), sources, workers)
    return _in_batches(model, seen)


def _predicted(model: Predictor, source: S, read: Callable[[S], Picture]) -> Answer[S]:
    try:
        return Answer(source=source, prediction=model.predict([read(source)])[0])
    except ImageError as error:
        return Answer(source=source, error=str(error))


def _seen(model: Adapted, source: S, read: Callable[[S], Picture]) -> Answer[S]:
    try:
        return Answer(source=source, pixels=preprocess(read(source), model.preprocessing))
    except ImageError as error:
        return Answer(source=source, error=str(error))


def _mapped(work: Callable[[S], R], sources: Iterable[S], workers: int) -> Iterator[R]:
    """The results in order; at most 4 for each worker are under way."""
    if workers == 1:
        yield from map(work, sources)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[R]] = deque()
    try:
        for source in sources:
            waiting.append(pool.submit(work, source))
            if len(waiting) >= AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _in_batches(model: Adapted, seen: Iterator[Answer[S]]) -> Iterator[Answer[S]]:
    size = FEW if model.preprocessing.height * model.preprocessing.width > LARGE else AT_ONCE
    waiting: list[Answer[S]] = []
    for answer in seen:
        waiting.append(answer)
        if len(waiting) == size:
            yield from _answered(model, waiting)
            waiting = []
    yield from _answered(model, waiting)


def _answered(model: Adapted, waiting: list[Answer[S]]) -> Iterator[Answer[S]]:
    pixels = [answer.pixels for answer in waiting if answer.pixels is not None]
    found = iter(to_predictions(*model.answers(np.stack(pixels)), model.labels) if pixels else [])
    for answer in waiting:
        if answer.pixels is None:
            yield answer
        else:
            yield Answer(source=answer.source, prediction=next(found), pixels=answer.pixels)
