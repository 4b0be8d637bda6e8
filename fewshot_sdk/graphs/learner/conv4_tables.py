"""Where the numbers of Conv4's layers come from: tables of positions, for a graph that gathers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.recipe import Conv4, Preprocessing

TAPS = 9


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Where a layer's numbers come from: tables of positions, one past the last standing for zero.

    patches: (positions after the convolution, 9) of positions before it; folds: the way back, (at most so many,
    positions before it) entries of `patches`; windows and corners: the same for the pool, of 4 each.
    """

    patches: NDArray[np.int64]
    folds: NDArray[np.int64]
    windows: NDArray[np.int64] | None
    corners: NDArray[np.int64] | None


DENSE = Layer(patches=np.zeros((1, 1), np.int64), folds=np.zeros((1, 1), np.int64), windows=None, corners=None)


def layers(backbone: Conv4, seen: Preprocessing) -> list[Layer]:
    """The four layers' tables."""
    found: list[Layer] = []
    height, width = seen.height, seen.width
    pool = backbone.downsample == "pool"
    for _ in range(4):
        small = -(-height // 2), -(-width // 2)
        patches = _patches(height, width, 1 if pool else 2)
        folds = _folds(patches, height * width)
        windows, corners = _windows(height, width) if pool else (None, None)
        found.append(Layer(patches=patches, folds=folds, windows=windows, corners=corners))
        height, width = small
    return found


def positions_after(tables: list[Layer]) -> int:
    """Positions after the last layer."""
    last = tables[-1]
    return len(last.patches if last.windows is None else last.windows)


def _patches(height: int, width: int, stride: int) -> NDArray[np.int64]:
    """TensorFlow's "same" padding, as `backbones.SameConv`."""
    steps, tops = [], []
    for size in (height, width):
        after = -(-size // stride)
        steps.append(after)
        tops.append(max((after - 1) * stride + 3 - size, 0) // 2)
    row, col, tap_row, tap_col = np.ogrid[: steps[0], : steps[1], :3, :3]
    y, x = row * stride + tap_row - tops[0], col * stride + tap_col - tops[1]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    table: NDArray[np.int64] = np.where(inside, y * width + x, height * width).reshape(-1, TAPS)
    return table


def _folds(patches: NDArray[np.int64], positions: int) -> NDArray[np.int64]:
    flat = patches.ravel()
    order = np.argsort(flat, kind="stable")
    counts = np.bincount(flat, minlength=positions + 1)[:positions]
    slots = np.arange(counts.max())
    starts = np.cumsum(counts) - counts
    places = np.minimum(starts[:, None] + slots, flat.size - 1)
    table: NDArray[np.int64] = np.where(slots < counts[:, None], order[places], flat.size)
    return np.ascontiguousarray(table.T)


def _windows(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The four corners of each window; one off the edge repeats one before it, so that it never wins."""
    row, col = np.mgrid[: -(-height // 2), : -(-width // 2)].reshape(2, -1, 1) * 2
    corner = np.arange(4)
    down, right = corner // 2, corner % 2
    y, x = np.minimum(row + down, height - 1), np.minimum(col + right, width - 1)
    windows = y * width + x
    at_row, at_col = np.mgrid[:height, :width].reshape(2, -1)
    window = (at_row // 2) * -(-width // 2) + at_col // 2
    return windows, window * 4 + (at_row % 2) * 2 + at_col % 2
