"""Grids over a picture: how a map of one grid is divided among the cells of another, without loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Sides = tuple[int, int]  # rows and columns


def common_sides(sides: Sequence[Sides]) -> Sides:
    """The grid for maps of these grids together: the finest."""
    return max(rows for rows, _ in sides), max(columns for _, columns in sides)


def overlaps(n: int, m: int) -> NDArray[np.float64]:
    """How n cells of a line are divided among m cells of the same line: (m, n), each column with the sum 1."""
    fine, coarse = np.arange(m + 1) / m, np.arange(n + 1) / n
    common = np.minimum(fine[1:, None], coarse[1:]) - np.maximum(fine[:-1, None], coarse[:-1])
    shares: NDArray[np.float64] = n * np.maximum(common, 0)
    return shares
