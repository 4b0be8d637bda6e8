"""Checks of an export: its agreement with PyTorch, and the cost of reduced precision."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.config.onnx_file import Parity, Reduction
from fewshot_sdk.config.recipe import Preprocessing, Rows
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.errors import ParityError
from fewshot_sdk.images.features import as_images
from fewshot_sdk.images.preprocessing import Pixels, preprocess
from fewshot_sdk.runtime.predictor import Predictor

TOLERANCE, MARGIN = 1e-4, 1e-3
BATCHES = (1, 2, 7)
RANDOM, RANDOM_LARGE, LARGE, RANDOM_MAPS = 1000, 100, 50, 50
Answers: TypeAlias = Callable[[Pixels], NDArray[np.float32]]
Precision: TypeAlias = Literal["fp32", "fp16", "int8"]
ROUNDS = 15


def check_parity(
    classifier: Classifier, answers: Answers, *, prepared: bool = False, runtime: str = "onnxruntime"
) -> Parity:
    """Compare an export with PyTorch on every support picture and on 1,000 random ones, in batches of 1, 2 and 7.

    For a classifier of features the pictures are rows, and the random ones spread twice as far as those of the support.

    A network whose weights come trained is a hundred times as much work as the others, so it gets 100 random pictures.
    answers: the export as a function from pictures of one size, uint8 (n, height, width, 3), or from preprocessed ones
    if `prepared`, to probabilities (n, n_way). runtime: the name of what runs it, for messages.
    Raises ParityError, naming the picture and the batch size, if a probability differs by more than 1e-4, or if the
    most probable label differs where PyTorch's leads by more than 1e-3.
    """
    preprocessing, worst = classifier.config.preprocessing, 0.0
    n_random = RANDOM_LARGE if classifier.config.backbone.comes_trained else RANDOM
    support, targets = classifier.support.images, classifier.support.targets
    support_names = [
        f"support {preprocessing.example} {i} ({classifier.labels[target]})" for i, target in enumerate(targets)
    ]
    groups = [*([(support, support_names)] if len(support) else []), *_random(classifier, n_random)]
    pixels = [np.stack([preprocess(picture, preprocessing) for picture in pictures]) for pictures, _ in groups]
    expected = _in_pytorch(classifier, pixels)
    for (pictures, names), preprocessed, wanted in zip(groups, pixels, expected, strict=True):
        inputs = preprocessed if prepared else pictures
        order = np.sort(wanted, 1)
        clear = order[:, -1] - order[:, -2] > MARGIN
        for batch in BATCHES:
            found = np.concatenate([answers(inputs[i : i + batch]) for i in range(0, len(inputs), batch)])
            difference = np.abs(found - wanted).max(1)
            wrong = ~(difference <= TOLERANCE) | (clear & (found.argmax(1) != wanted.argmax(1)))
            if wrong.any():
                row = int(np.argmax(np.where(wrong, np.nan_to_num(difference, nan=np.inf), -1)))
                raise ParityError(
                    f"{runtime} and PyTorch disagree on {names[row]}, in batches of {batch}: a probability differs "
                    f"by {difference[row]:.2g}, allowed {TOLERANCE:.0e}, and their labels are "
                    f"{classifier.labels[int(found[row].argmax())]} and "
                    f"{classifier.labels[int(wanted[row].argmax())]}; no file was written"
                )
            worst = max(worst, float(difference.max()))
    return Parity(images=len(support), random_images=n_random, batches=BATCHES, max_difference=worst)


def check_heat_maps(classifier: Classifier, maps: Answers, *, prepared: bool = False) -> None:
    """Compare an export's heat maps with PyTorch's, on the support pictures and on random ones, in batches of 1 and 7.

    maps: the export as a function from pictures, as in `check_parity`, to heat maps (n, h, w).
    Raises ParityError, naming the picture, if a value differs by more than 1e-4 of the largest value (or of 1), unless
    two classes are as probable.
    """
    preprocessing, support = classifier.config.preprocessing, classifier.support.images
    groups = [
        ("support picture", batch)
        for batch in np.split(support, range(max(BATCHES), len(support), max(BATCHES)))
        if len(batch)
    ]
    groups += [("random picture", pictures) for pictures, _ in made_up(preprocessing, RANDOM_MAPS)]
    done: Counter[str] = Counter()
    for name, pictures in groups:
        pixels = np.stack([preprocess(picture, preprocessing) for picture in pictures])
        with one_thread():
            wanted, rows = classifier.heat_maps(pixels), np.sort(classifier.probabilities(pixels), 1)
        clear = rows[:, -1] - rows[:, -2] > MARGIN
        inputs = pixels if prepared else pictures
        for found in (np.concatenate([maps(inputs[i : i + 1]) for i in range(len(inputs))]), maps(inputs)):
            allowed = TOLERANCE * np.maximum(1, np.abs(wanted).max((1, 2)))
            difference = np.abs(found - wanted).max((1, 2)) if found.shape == wanted.shape else np.inf * allowed
            if (wrong := clear & ~(difference <= allowed)).any():
                row = int(wrong.argmax())
                raise ParityError(
                    f"onnxruntime and PyTorch disagree on the heat map of {name} {done[name] + row}: a value "
                    f"differs by {difference[row]:.2g}, allowed {allowed[row]:.0e}; no file was written"
                )
        done[name] += len(pictures)


def _in_pytorch(classifier: Classifier, pixels: Sequence[Pixels]) -> list[NDArray[np.float32]]:
    """PyTorch's probabilities for each group, computed in a few large batches."""
    together = np.concatenate(pixels)
    with one_thread():
        rows = [classifier.probabilities(together[i : i + LARGE]) for i in range(0, len(together), LARGE)]
    ends = np.cumsum([len(group) for group in pixels])
    return np.split(np.concatenate(rows), ends[:-1])


def _random(classifier: Classifier, n: int) -> Iterator[tuple[Pixels, list[str]]]:
    preprocessing = classifier.config.preprocessing
    if not isinstance(preprocessing, Rows):
        yield from made_up(preprocessing, n)
        return
    centre, spread = (classifier.params[f"whole.{name}"].numpy() for name in ("centre", "spread"))
    noise = np.random.default_rng(0).normal(size=(n, preprocessing.width))
    yield as_images((centre + 2 * spread * noise).astype(np.float32)), [f"random row {i}" for i in range(n)]


def made_up(preprocessing: Preprocessing, n: int) -> Iterator[tuple[Pixels, list[str]]]:
    """`n` pictures and their names, in groups of up to 7 of one size: noise, coarse to fine, of many sizes."""
    rng = np.random.default_rng(0)
    for first in range(0, n, max(BATCHES)):
        sides = rng.integers(8, 2 * max(preprocessing.height, preprocessing.width) + 8, 2)
        grain = int(rng.integers(1, 1 + max(sides) // 2))
        cells = -(-sides // grain)
        coarse = rng.integers(0, 256, (min(max(BATCHES), n - first), *cells, 3), np.uint8)
        pictures = coarse.repeat(grain, 1).repeat(grain, 2)[:, : sides[0], : sides[1]]
        names = [f"random picture {first + i} ({sides[1]} x {sides[0]} pixels)" for i in range(len(pictures))]
        yield pictures, names


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Milliseconds for one picture on one thread, and bytes: of a file and of the same model in fp32."""

    milliseconds: float
    milliseconds_fp32: float
    bytes: int
    bytes_fp32: int


def compare(classifier: Classifier, full: bytes, reduced: bytes) -> tuple[Reduction, Speed]:
    """What reduced precision changes on the support set, and the speed of both files, timed alternately."""
    support, targets = classifier.support.images, classifier.support.targets
    ours, theirs = Predictor(reduced), Predictor(full)
    (found, found_known), (wanted, wanted_known) = ours.answers(support), theirs.answers(support)
    right = wanted.argmax(1) == targets
    lost = right & (found.argmax(1) != targets)
    same = (found.argmax(1) == wanted.argmax(1)) & (found_known == wanted_known)
    reduction = Reduction(
        images=len(support), lost=float(lost.mean()), agreed=float(same.mean()),
        max_difference=float(np.abs(found - wanted).max()),
    )  # fmt: skip
    times: dict[Predictor, list[float]] = {ours: [], theirs: []}
    for _ in range(ROUNDS):
        for predictor, taken in times.items():
            began = time.perf_counter()
            predictor.probabilities(support[:1])
            taken.append(1000 * (time.perf_counter() - began))
    return reduction, Speed(
        milliseconds=statistics.median(times[ours]), milliseconds_fp32=statistics.median(times[theirs]),
        bytes=len(reduced), bytes_fp32=len(full),
    )  # fmt: skip
