"""The gate before an exported file: it must say what PyTorch says, of the user's pictures and of made-up ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.config.onnx_file import Parity
from fewshot_sdk.config.recipe import Preprocessing, Timm
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.errors import ParityError
from fewshot_sdk.images.preprocessing import Pixels, preprocess
from fewshot_sdk.runtime.predictor import Predictor

TOLERANCE, MARGIN = 1e-4, 1e-3
BATCHES = (1, 2, 7)
RANDOM, RANDOM_LARGE, LARGE = 1000, 100, 50


def check_parity(classifier: Classifier, predictor: Predictor) -> Parity:
    """How far the two are apart on every support picture and on 1,000 made-up ones, in batches of 1, 2 and 7.

    Of a timm model, a hundred times as much work as ours, on 100.

    Raises ParityError, naming the picture and the batch, if a probability differs by more than 1e-4, or if the most
    probable label is another where PyTorch's is ahead by more than 1e-3.
    """
    seen, worst = classifier.config.preprocessing, 0.0
    n_random = RANDOM_LARGE if isinstance(classifier.config.backbone, Timm) else RANDOM
    support, targets = classifier.support.images, classifier.support.targets
    names = [f"support picture {i} ({classifier.labels[target]})" for i, target in enumerate(targets)]
    groups = [*([(support, names)] if len(support) else []), *made_up(seen, n_random)]
    pixels = [np.stack([preprocess(picture, seen) for picture in pictures]) for pictures, _ in groups]
    answers = _answers(classifier, pixels)
    for (pictures, named), prepared, wanted in zip(groups, pixels, answers, strict=True):
        given = prepared if predictor.metadata.raw else pictures
        order = np.sort(wanted, 1)
        clear = order[:, -1] - order[:, -2] > MARGIN
        for batch in BATCHES:
            found = np.concatenate([predictor.probabilities(given[i : i + batch]) for i in range(0, len(given), batch)])
            difference = np.abs(found - wanted).max(1)
            wrong = ~(difference <= TOLERANCE) | (clear & (found.argmax(1) != wanted.argmax(1)))
            if wrong.any():
                row = int(np.argmax(np.where(wrong, np.nan_to_num(difference, nan=np.inf), -1)))
                raise ParityError(
                    f"onnxruntime and PyTorch disagree on {named[row]}, in batches of {batch}: a probability differs "
                    f"by {difference[row]:.2g}, allowed {TOLERANCE:.0e}, and they say "
                    f"{classifier.labels[int(found[row].argmax())]} and "
                    f"{classifier.labels[int(wanted[row].argmax())]}; no file was written"
                )
            worst = max(worst, float(difference.max()))
    return Parity(images=len(support), random_images=n_random, batches=BATCHES, max_difference=worst)


def _answers(classifier: Classifier, pixels: Sequence[Pixels]) -> list[NDArray[np.float32]]:
    """PyTorch's probabilities of each group, by a few large batches."""
    together = np.concatenate(pixels)
    with one_thread():
        rows = [classifier.probabilities(together[i : i + LARGE]) for i in range(0, len(together), LARGE)]
    ends = np.cumsum([len(group) for group in pixels])
    return np.split(np.concatenate(rows), ends[:-1])


def made_up(seen: Preprocessing, n: int) -> Iterator[tuple[Pixels, list[str]]]:
    """Pictures in groups of one size, up to 7 each, and their names: noise of all coarsenesses and sizes."""
    rng = np.random.default_rng(0)
    for first in range(0, n, max(BATCHES)):
        sides = rng.integers(8, 2 * max(seen.height, seen.width) + 8, 2)
        grain = int(rng.integers(1, 1 + max(sides) // 2))
        few = -(-sides // grain)
        coarse = rng.integers(0, 256, (min(max(BATCHES), n - first), *few, 3), np.uint8)
        pictures = coarse.repeat(grain, 1).repeat(grain, 2)[:, : sides[0], : sides[1]]
        names = [f"made-up picture {first + i} ({sides[1]} x {sides[0]} pixels)" for i in range(len(pictures))]
        yield pictures, names
