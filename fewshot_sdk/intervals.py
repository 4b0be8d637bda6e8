"""Means and their 95 % intervals, over many tasks or a few seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

_T95 = (  # Student's t for the 95 % interval of a mean of 2, 3, ... 30
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
)  # fmt: skip


def standard_error(values: ArrayLike) -> float:
    """The standard error of the mean of values (n,); 0 for one value."""
    sample = np.asarray(values, np.float64)
    return float(sample.std(ddof=1) / len(sample) ** 0.5) if len(sample) > 1 else 0.0


def interval(values: ArrayLike) -> tuple[float, float]:
    """The mean of many values (n,), or of paired differences, and the half-width of its 95 % interval.

    The half-width is 1.96 standard errors, as for a normal distribution; 0 for one value.
    """
    return float(np.asarray(values, np.float64).mean()), 1.96 * standard_error(values)


def interval_of_few(values: Sequence[float]) -> tuple[float, float]:
    """The same by Student's t, for up to 30 values; half-width 0 for one value."""
    n = len(values)
    return statistics.fmean(values), _T95[n - 2] * statistics.stdev(values) / n**0.5 if n > 1 else 0.0


def interval_of_share(share: float, n: int) -> tuple[float, float]:
    """The ends of the 95 % interval of a share of n trials, from 0 to 1. Source: Wilson 1927."""
    square = 1.96**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = 1.96 * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # despite rounding


def most(count: int, n: int) -> float:
    """The chance of an event that `count` of n trials are the evidence for, at most, at 95 % confidence.

    Source: Clopper and Pearson 1934, one side.
    """
    if count >= n:
        return 1.0
    ways = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(count + 1)]

    def as_few(chance: float) -> float:
        hit, missed = math.log(chance), math.log1p(-chance)
        return math.fsum(math.exp(way + k * hit + (n - k) * missed) for k, way in enumerate(ways))

    low, high = count / n, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if as_few(middle) > 0.05 else (low, middle)
    return high
