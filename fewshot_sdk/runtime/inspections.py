"""An inspector's answer for one picture, the same from PyTorch and from ONNX, and how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.errors import ConfigError
from fewshot_sdk.runtime.calibration import auroc
from fewshot_sdk.runtime.scoring import Share, share


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """A picture's score, and whether it is good: whether the score is at most the limit; None where there is none."""

    good: bool | None
    score: float
    limit: float | None


def to_inspected(scores: NDArray[np.float32], limit: float | None, threshold: float | None = None) -> list[Inspected]:
    """The answer for each score, (n,). threshold: instead of the limit. Raises ConfigError if it is under 0."""
    if threshold is not None and not 0 <= threshold <= 2:
        raise ConfigError(f"threshold: expected a score from 0 to 2, found {threshold}")
    used = limit if threshold is None else threshold
    least = None if used is None else np.float32(used)
    return [
        Inspected(good=None if least is None else bool(score <= least), score=float(score), limit=used)
        for score in scores
    ]


@dataclass(frozen=True, kw_only=True)
class InspectionScore:
    """What came out of a test: area under the ROC curve, good pictures called not good, bad ones called good.

    Each is None where there is nothing to count: no good pictures, no bad ones, or no limit.
    """

    auroc: float | None
    lost: Share | None
    missed: Share | None


def inspection_score(good: Sequence[Inspected], bad: Sequence[Inspected]) -> InspectionScore:
    """The score of answers for pictures that are known to be good and to be bad."""
    first, second = (np.array([one.score for one in found], np.float64) for found in (bad, good))
    decided = [one for one in (*good, *bad) if one.good is not None]
    return InspectionScore(
        auroc=auroc(first, second) if len(first) and len(second) else None,
        lost=share(sum(not one.good for one in good), len(good)) if decided else None,
        missed=share(sum(bool(one.good) for one in bad), len(bad)) if decided else None,
    )


FAR = "red: further from the good pictures than the limit"


def excess(heat: NDArray[np.float32], limit: float | None) -> NDArray[np.float32]:
    """A heat map for people: 0 up to 0.8 of the limit, 1 from 1.2 of it on; without a limit, shares of the largest."""
    if limit is None or limit == 0:
        return (heat / max(float(heat.max()), 1e-9)).astype(np.float32)
    shown: NDArray[np.float32] = np.clip((heat / np.float32(limit) - 0.8) / 0.4, 0, 1).astype(np.float32)
    return shown
