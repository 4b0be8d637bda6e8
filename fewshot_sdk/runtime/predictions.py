"""A classifier's answer for one picture, the same from PyTorch and from ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The most probable label, its probability, and the probabilities of all labels, which sum to 1.

    label: None if the picture seems to show none of the known classes; nearest: the most probable label, even then;
    probability: that of `nearest`.
    """

    label: str | None
    nearest: str
    probability: float
    probabilities: dict[str, float]


def check_threshold(threshold: float | None) -> None:
    """Raises ConfigError unless a threshold on the probability is None or from 0 to 1."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"threshold: expected a probability from 0 to 1, found {threshold}")


def to_predictions(rows: NDArray[np.float32], known: NDArray[np.bool_], labels: Sequence[str]) -> list[Prediction]:
    """One prediction for each row of probabilities (n, len(labels)); ties go to the first label.

    known: whether a row gets a label, (n,).
    """
    return [
        Prediction(
            label=labels[int(row.argmax())] if shown else None,
            nearest=labels[int(row.argmax())],
            probability=float(row.max()),
            probabilities=dict(zip(labels, row.tolist(), strict=True)),
        )
        for row, shown in zip(rows, known, strict=True)
    ]
