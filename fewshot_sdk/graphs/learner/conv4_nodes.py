"""Conv4 and its gradients as ONNX operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.recipe import Conv4, Preprocessing
from fewshot_sdk.graphs.nodes import Nodes

TAPS = 9


@dataclass(frozen=True)
class Weights:
    """Names of a layer's weights: kernel (9 channels, filters), scale and shift (1, filters)."""

    kernel: str
    gamma: str
    beta: str


@dataclass(frozen=True)
class Trace:
    """What the backward pass needs of a layer's forward pass."""

    patches: str
    centred: str
    inverse: str
    scale: str
    chosen: str
    output: str


def pixels(g: Nodes, images: str, preprocessing: Preprocessing) -> str:
    """(pixel / 255 - mean) / std of uint8 images, as float (n, positions, channels)."""
    floats = g("Div", g("Cast", images, to=1), g.scalar(255))
    if any(preprocessing.mean):
        floats = g("Sub", floats, g.constant(preprocessing.mean))
    if any(value != 1 for value in preprocessing.std):
        floats = g("Div", floats, g.constant(preprocessing.std))
    return g("Reshape", floats, g.integers(0, preprocessing.height * preprocessing.width, preprocessing.channels))


def gather_patches(g: Nodes, x: str, layer: Layer) -> str:
    """(n, positions, channels) -> (n, positions after, 9 channels); zeros beyond the edge."""
    padded = g("Pad", x, g.integers(0, 0, 0, 0, 1, 0))
    taken = g("Gather", padded, g.integers(*layer.patches.ravel()), axis=1)
    return g("Reshape", taken, g.integers(0, len(layer.patches), -1))


def as_rows(g: Nodes, x: str, columns: int) -> str:
    """(n, positions, columns) -> (n positions, columns)."""
    return g("Reshape", x, g.integers(-1, columns))


def column_means(g: Nodes, x: str) -> str:
    """(1, columns): the mean of each column."""
    return g("ReduceMean", x, g.integers(0), keepdims=1)


def inverse_deviation(g: Nodes, variance: str, epsilon: float) -> str:
    """1 / sqrt(variance + epsilon)."""
    return g("Reciprocal", g("Sqrt", g("Add", variance, g.scalar(epsilon))))


def shrink(g: Nodes, z: str, layer: Layer, filters: int) -> tuple[str, str]:
    """The pool, if any, then ReLU: rows -> (n, positions after, filters), and which corner is the maximum."""
    positions = len(layer.patches)
    z = g("Reshape", z, g.integers(-1, positions, filters))
    chosen = ""
    if layer.windows is not None:
        corners = g("Gather", z, g.integers(*layer.windows.ravel()), axis=1)
        corners = g("Reshape", corners, g.integers(-1, len(layer.windows), 4, filters))
        chosen = g("ArgMax", corners, axis=2, keepdims=1)
        z = g("ReduceMax", corners, g.integers(2), keepdims=0)
    return g("Relu", z), chosen


def unshrink(g: Nodes, gradient: str, output: str, chosen: str, layer: Layer, filters: int) -> str:
    """The backward pass of `shrink`: gradient of its output -> gradient of its input, as rows."""
    gradient = g("Mul", gradient, g("Cast", g("Greater", output, g.scalar(0)), to=1))  # faster than Where and Sign
    if layer.corners is not None:
        which = g("Reshape", g.integers(0, 1, 2, 3), g.integers(4, 1))
        mine = g("Cast", g("Equal", chosen, which), to=1)
        spread = g("Mul", g("Unsqueeze", gradient, g.integers(2)), mine)
        spread = g("Reshape", spread, g.integers(0, -1, filters))
        gradient = g("Gather", spread, g.integers(*layer.corners), axis=1)
    return as_rows(g, gradient, filters)


def predict(
    g: Nodes, x: str, tables: list[Layer], weights: list[Weights], head: str, backbone: Conv4,
    statistics: list[tuple[str, str]] | None = None, own: str = "",
) -> tuple[str, list[tuple[str, str]]]:  # fmt: skip
    """Logits, and mean and variance of each norm's input over all images and positions.

    statistics: means and variances to normalize with instead, unless the boolean named `own` is true.
    """
    found: list[tuple[str, str]] = []
    for i, (layer, w) in enumerate(zip(tables, weights, strict=True)):
        patches = gather_patches(g, x, layer)
        columns = g("Reshape", patches, g("Concat", g.integers(-1), g("Shape", patches, start=2), axis=0))
        y = g("MatMul", columns, w.kernel)
        mean = column_means(g, y)
        centred = g("Sub", y, mean)
        variance = column_means(g, g("Mul", centred, centred))
        found.append((mean, variance))
        if statistics:
            mean = g("Where", own, mean, statistics[i][0])
            variance = g("Where", own, variance, statistics[i][1])
            centred = g("Sub", y, mean)
        scale = g("Mul", w.gamma, inverse_deviation(g, variance, backbone.norm_epsilon))
        x, _ = shrink(g, g("Add", g("Mul", centred, scale), w.beta), layer, backbone.filters)
    return g("MatMul", features(g, x, positions_after(tables), backbone.filters), head), found


def features(g: Nodes, x: str, positions: int, filters: int) -> str:
    """The head's input, (n, features + 1): the last column, of ones, is for the bias."""
    return g("Pad", g("Reshape", x, g.integers(-1, positions * filters)), g.integers(0, 0, 0, 1), g.scalar(1))


def forward(g: Nodes, x: str, layer: Layer, w: Weights, backbone: Conv4) -> Trace:
    """A layer after the first, normalized with the batch's own statistics."""
    filters, epsilon = backbone.filters, backbone.norm_epsilon
    patches = as_rows(g, gather_patches(g, x, layer), TAPS * filters)
    y = g("MatMul", patches, w.kernel)
    centred = g("Sub", y, column_means(g, y))
    inverse = inverse_deviation(g, column_means(g, g("Mul", centred, centred)), epsilon)
    scale = g("Mul", w.gamma, inverse)
    output, chosen = shrink(g, g("Add", g("Mul", centred, scale), w.beta), layer, filters)
    return Trace(patches, centred, inverse, scale, chosen, output)


def backward(
    g: Nodes, gradient: str, trace: Trace, layer: Layer, w: Weights, filters: int
) -> tuple[str, str, str, str]:
    """Gradients of the layer's input, kernel, gamma and beta from that of its output."""
    d = unshrink(g, gradient, trace.output, trace.chosen, layer, filters)
    by_beta = g("ReduceSum", d, g.integers(0), keepdims=1)
    by_gamma = g("Mul", g("ReduceSum", g("Mul", d, trace.centred), g.integers(0), keepdims=1), trace.inverse)
    rows = g("Cast", g("Shape", d, start=0, end=1), to=1)
    of_mean = g("Div", by_beta, rows)
    of_variance = g("Div", g("Mul", by_gamma, trace.inverse), rows)
    inner = g("Sub", g("Sub", d, of_mean), g("Mul", trace.centred, of_variance))
    d = g("Mul", inner, trace.scale)
    by_kernel = g("Gemm", trace.patches, d, transA=1)
    return by_patches(g, d, layer, w.kernel, filters), by_kernel, by_gamma, by_beta


def by_patches(g: Nodes, d: str, layer: Layer, kernel: str, filters: int) -> str:
    """Gradient of a convolution's input, (n, positions before, channels), from that of its output, as rows."""
    # one row of zeros per image makes the zero patches that the table points to where there is no tap
    padded = g("Pad", g("Reshape", d, g.integers(-1, len(layer.patches), filters)), g.integers(0, 0, 0, 0, 1, 0))
    spread = g("Gemm", as_rows(g, padded, filters), kernel, transB=1)
    spread = g("Reshape", spread, g.integers(-1, TAPS * (len(layer.patches) + 1), filters))
    taken = g("Gather", spread, g.integers(*layer.folds.ravel()), axis=1)
    # long rows are summed faster
    taken = g("Reshape", taken, g.integers(-1, len(layer.folds), layer.folds.shape[1] * filters))
    return g("Reshape", g("ReduceSum", taken, g.integers(1), keepdims=0), g.integers(0, -1, filters))


@dataclass(frozen=True)
class First:
    """The first layer's patches of a batch, centred and with a column of ones, and their covariance."""

    patches: str
    covariance: str


def first(g: Nodes, patches: str, columns: int) -> First:
    """The input of the first layer from its patches, (n, positions, columns).

    That input does not depend on weights, so the norm's statistics follow from the patches' covariance.
    """
    rows = as_rows(g, patches, columns)
    centred = g("Sub", rows, column_means(g, rows))
    n = g("Cast", g("Shape", rows, start=0, end=1), to=1)
    return First(
        g("Pad", centred, g.integers(0, 0, 0, 1), g.scalar(1)),
        g("Div", g("Gemm", centred, centred, transA=1), n),
    )


def forward_first(g: Nodes, x: First, layer: Layer, w: Weights, backbone: Conv4) -> Trace:
    """The first layer, with scale and shift folded into its kernel."""
    filters, epsilon = backbone.filters, backbone.norm_epsilon
    spread = g("MatMul", x.covariance, w.kernel)
    variance = g("Relu", g("ReduceSum", g("Mul", w.kernel, spread), g.integers(0), keepdims=1))
    inverse = inverse_deviation(g, variance, epsilon)
    scale = g("Mul", w.gamma, inverse)
    z = g("MatMul", x.patches, g("Concat", g("Mul", w.kernel, scale), w.beta, axis=0))
    output, chosen = shrink(g, z, layer, filters)
    return Trace(x.patches, spread, inverse, scale, chosen, output)


def backward_first(
    g: Nodes, gradient: str, trace: Trace, layer: Layer, w: Weights, filters: int, columns: int
) -> tuple[str, str, str]:
    """Gradients of the first layer's kernel, gamma and beta."""
    d = unshrink(g, gradient, trace.output, trace.chosen, layer, filters)
    by_folded, by_beta = g.several("Split", 2, g("Gemm", trace.patches, d, transA=1), g.integers(columns, 1), axis=0)
    by_gamma = g("Mul", g("ReduceSum", g("Mul", w.kernel, by_folded), g.integers(0), keepdims=1), trace.inverse)
    of_variance = g("Mul", trace.centred, g("Mul", by_gamma, trace.inverse))
    return g("Mul", g("Sub", by_folded, of_variance), trace.scale), by_gamma, by_beta


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Tables of positions for a layer's forward and backward pass; the index after the last stands for zero.

    patches: (positions after the convolution, 9), positions before it; folds: the inverse, (the most patches that
    share a position, positions before it), entries of `patches`; windows and corners: the same for the pool, with 4.
    """

    patches: NDArray[np.int64]
    folds: NDArray[np.int64]
    windows: NDArray[np.int64] | None
    corners: NDArray[np.int64] | None


DENSE = Layer(patches=np.zeros((1, 1), np.int64), folds=np.zeros((1, 1), np.int64), windows=None, corners=None)


def layers(backbone: Conv4, preprocessing: Preprocessing) -> list[Layer]:
    """The tables of the four layers."""
    found: list[Layer] = []
    height, width = preprocessing.height, preprocessing.width
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
    """Number of positions after the last layer."""
    last = tables[-1]
    return len(last.patches if last.windows is None else last.windows)


def _patches(height: int, width: int, stride: int) -> NDArray[np.int64]:
    """The table for TensorFlow's "same" padding, as in `nets.conv4.SameConv`."""
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
    """The four corners of each window; one off the edge repeats an earlier one, so that it never wins."""
    row, col = np.mgrid[: -(-height // 2), : -(-width // 2)].reshape(2, -1, 1) * 2
    corner = np.arange(4)
    down, right = corner // 2, corner % 2
    y, x = np.minimum(row + down, height - 1), np.minimum(col + right, width - 1)
    windows = y * width + x
    at_row, at_col = np.mgrid[:height, :width].reshape(2, -1)
    window = (at_row // 2) * -(-width // 2) + at_col // 2
    return windows, window * 4 + (at_row % 2) * 2 + at_col % 2
