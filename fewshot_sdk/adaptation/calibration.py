"""How far probabilities can be believed, and when to say "I do not know": laws on held-out predictions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLDEST, HOTTEST = 1e-3, 1e3
BINS = 15


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities (n, n_way) of logits divided by the temperature."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    probabilities: Floats = powers / powers.sum(1, keepdims=True)
    return probabilities


def fit_temperature(logits: Floats, targets: Ints, n_pictures: int) -> float:
    """The temperature under which held-out logits (n, n_way) are most credible, given a prior that it is near 1.

    Least, for b = 1 / temperature, is n_pictures mean_i cross-entropy_i(b z_i) + b - log b: n_pictures is the number
    of different pictures, and b - log b a Gamma(2, 1) prior. All is convex in b, so its slope, n_pictures
    mean_i (sum_k p_ik z_ik - z_i,target) + 1 - 1 / b, is bisected. Without the prior a few pictures that are all
    right, as is common, would give 0, at which every later prediction is certain.
    1 if the logits say nothing. Source: Guo et al. 2017, section 4.2, but for the prior.
    """
    mean_of_target = logits[np.arange(len(targets)), targets].mean()

    def too_sure(temperature: float) -> bool:
        expected = (softmax(logits, temperature) * logits).sum(1).mean()
        return bool(n_pictures * (expected - mean_of_target) + 1 - temperature > 0)

    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_sure(math.exp(middle)) else (low, middle)
    return math.exp((low + high) / 2)


def reject_threshold(confidences: Floats, rate: float) -> float:
    """The highest threshold under which no more than a share `rate` of known pictures lies; 0 if the rate is 0.

    confidences: the highest probability of each held-out picture of a known class, (n,).
    """
    if rate == 0 or not len(confidences):
        return 0.0
    lost = min(math.floor(rate * len(confidences) + 1e-9), len(confidences) - 1)
    return float(np.sort(confidences)[lost])


def expected_calibration_error(probabilities: Floats, targets: Ints) -> float:
    """How far confidence is from accuracy: sum_b n_b / n |accuracy_b - confidence_b| over 15 equal bins.

    probabilities (n, n_way), targets (n,). Source: Guo et al. 2017, equation 3.
    """
    confidences = probabilities.max(1)
    gaps = (probabilities.argmax(1) == targets) - confidences
    bins = np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
    return float(np.abs(np.bincount(bins, gaps, minlength=BINS)).sum() / len(targets))


def auroc(known: Floats, unknown: Floats) -> float:
    """The chance that a known picture's score is above an unknown one's; equal scores count half.

    Source: Mann and Whitney 1947.
    """
    ordered = np.sort(unknown)
    below = np.searchsorted(ordered, known, "left")
    up_to = np.searchsorted(ordered, known, "right")
    return float((below + up_to).mean() / 2 / len(unknown))
