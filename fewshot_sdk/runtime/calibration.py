"""Temperature, limit of rejection and measures of calibration, from held-out predictions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLDEST, HOTTEST = 1e-3, 1e3
BINS = 15
REJECT_RATE = 0.05  # the share of pictures of known classes that may be called unknown, if nothing else is asked for
FEWEST = 8  # pictures; with fewer, more known ones than asked would be lost


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


def reject_limit(scores: Floats, rate: float, fewest: int = FEWEST) -> float | None:
    """The limit that the score of a further known picture is below in at most a share `rate` of cases; None: no limit.

    scores: of n held-out pictures of known classes. The limit is the r-th lowest, r = rate (n + 1): a further score is
    equally likely to have any of the n + 1 ranks, so it is below with chance r / (n + 1), whatever the distribution.
    Between two ranks the limit is interpolated, which is on the safe side where lower scores are rarer. With too few
    pictures for that, r < 1, the limit is below the lowest score by s ln(1 / r) as for an exponential tail, where s is
    the distance from the lowest to the median, to be on the safe side. There is no limit for a rate of 0, nor for fewer
    than `fewest` pictures and r < 1.
    Source: Vovk et al. 2005, section 2.2 (conformal prediction), for r >= 1.
    """
    if rate == 0 or not len(scores):
        return None
    ordered, ranks = np.sort(scores), rate * (len(scores) + 1)
    if ranks >= 1:
        return float(np.interp(ranks, np.arange(1, len(ordered) + 1), ordered))
    if len(ordered) < fewest:
        return None
    return float(ordered[0] + (np.median(ordered) - ordered[0]) * math.log(ranks))


def between(limit: float | None, unknown: Floats) -> float | None:
    """The limit, or half-way down to the highest score of left-out classes if all of these are below it.

    Where classes are easy to tell apart, the few held-out pictures resemble each other more than later ones do: a
    higher limit would lose these and catch nothing more.
    """
    if limit is None or not len(unknown):
        return limit
    return min(limit, (limit + float(unknown.max())) / 2)


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
