"""Temperature, reject threshold and measures of calibration, from held-out predictions."""

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
    """The most probable temperature given held-out logits (n, n_way) and a prior that it is near 1.

    With b = 1 / temperature it minimizes n_pictures mean_i cross-entropy_i(b z_i) + b - log b, where n_pictures is the
    number of different pictures and b - log b comes from a Gamma(2, 1) prior. The sum is convex in b, so the zero of
    its derivative, n_pictures mean_i (sum_k p_ik z_ik - z_i,target) + 1 - 1 / b, is found by bisection. Without the
    prior, a few pictures that are all right, as is common, would give 0, and every later prediction would be certain.
    The result is 1 if all logits are equal. Source: Guo et al. 2017, section 4.2, except for the prior.
    """
    mean_at_targets = logits[np.arange(len(targets)), targets].mean()

    def overconfident(temperature: float) -> bool:
        expected = (softmax(logits, temperature) * logits).sum(1).mean()
        return bool(n_pictures * (expected - mean_at_targets) + 1 - temperature > 0)

    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if overconfident(math.exp(middle)) else (low, middle)
    return math.exp((low + high) / 2)


def reject_threshold(confidences: Floats, rate: float) -> float:
    """The highest threshold that at most a share `rate` of known pictures is below; 0 if the rate is 0.

    confidences: the highest probability for each held-out picture of a known class, (n,).
    """
    if rate == 0 or not len(confidences):
        return 0.0
    lost = min(math.floor(rate * len(confidences) + 1e-9), len(confidences) - 1)
    return float(np.sort(confidences)[lost])


def expected_calibration_error(probabilities: Floats, targets: Ints) -> float:
    """The mean gap between confidence and accuracy: sum_b n_b / n |accuracy_b - confidence_b| over 15 equal bins.

    probabilities (n, n_way), targets (n,). Source: Guo et al. 2017, equation 3.
    """
    confidences = probabilities.max(1)
    gaps = (probabilities.argmax(1) == targets) - confidences
    bins = np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
    return float(np.abs(np.bincount(bins, gaps, minlength=BINS)).sum() / len(targets))


def auroc(known: Floats, unknown: Floats) -> float:
    """The probability that a known picture's score is above an unknown one's; equal scores count half.

    Source: Mann and Whitney 1947.
    """
    ordered = np.sort(unknown)
    below = np.searchsorted(ordered, known, "left")
    up_to = np.searchsorted(ordered, known, "right")
    return float((below + up_to).mean() / 2 / len(unknown))
