"""The preprocessing of images as ONNX operators, bit for bit as Pillow computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes

_DOUBLE, _FLOAT, _INT64 = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
_UINT8 = onnx.TensorProto.UINT8
_GREY = (19595.0, 38470.0, 7471.0)  # Pillow's weights of red, green and blue, in 65536ths; source: `Convert.c`
_STEPS = 2.0**22  # Pillow rounds weights to multiples of 1 / _STEPS
_REACH = {"bilinear": 1.0, "bicubic": 2.0}  # a filter's radius, in pixels of the smaller image
_CHANNELS_FIRST = (0, 3, 1, 2)
_ONE = onnx.helper.make_tensor("one", onnx.TensorProto.INT8, [1], [1])
_T = onnx.TensorProto


@dataclass(frozen=True)
class Side:
    """How one side of an image is used, as names of float64 scalars; or both sides, as names of (2, 1, 1).

    whole: length of the part that is resized, or of the canvas under the image; first: the first pixel used;
    offset: position of that pixel on the canvas; used: number of pixels used.
    """

    whole: str
    offset: str
    first: str
    used: str


def network_pixels(g: Nodes, images: str, settings: Preprocessing) -> str:
    """uint8 (n, any height, any width, 3) -> float32 (n, channels, height, width), whole numbers from 0 to 255."""
    wanted = (settings.height, settings.width)
    sizes = g("Cast", g("Shape", images, start=1, end=3), to=_DOUBLE)
    sides = _sides(g, sizes, settings)
    grey = _grey(g, images) if settings.channels == 1 or settings.polarity == "dark_on_light" else ""
    dark = _dark(g, grey, _area(g, sizes)) if settings.polarity == "dark_on_light" else None
    x = grey if settings.channels == 1 else g("Transpose", images, perm=_CHANNELS_FIRST)
    if (settings.fit == "crop" or settings.kept < 1) and settings.resize != "nearest":
        starts, ends = (
            g("Cast", g("Reshape", part, g.integers(2)), to=_INT64)
            for part in (sides.first, g("Add", sides.first, sides.used))
        )
        x = g("Slice", x, starts, ends, g.integers(2, 3))
    if settings.resize == "box":
        return box_resized(g, x, sides.whole, sides.offset, sides.used, wanted, dark, settings.fit == "pad")
    if dark is not None:
        x = g("Abs", g("Sub", g("Cast", x, to=_FLOAT), g("Mul", g("Cast", dark, to=_FLOAT), g.scalar(255))))
    rows, columns = (_one_side(g, sides, axis) for axis in (0, 1))
    if settings.resize == "nearest":
        x = _nearest(g, x, columns, settings.width, 3)
        return g("Cast", _nearest(g, x, rows, settings.height, 2), to=_FLOAT)
    x = g("Cast", x, to=_DOUBLE)
    weights, white = _weights(g, columns, settings.width, settings, down=True)
    x = _eight_bits(g, g("MatMul", x, weights), white)
    weights, white = _weights(g, rows, settings.height, settings)
    return g("Cast", _eight_bits(g, g("MatMul", weights, x), white), to=_FLOAT)


def _sides(g: Nodes, found: str, settings: Preprocessing) -> Side:
    """How sides with these numbers of pixels, float64 (2,), are used, as in `images.preprocessing.resize`."""
    sizes, others = (
        g("Gather", found, g.constant(np.reshape(order, (2, 1, 1)), np.int64)) for order in ((0, 1), (1, 0))
    )
    zero = _double(g, np.zeros((2, 1, 1)))
    if settings.fit == "stretch" and settings.kept == 1:
        return Side(sizes, zero, zero, sizes)
    even = others
    if settings.height != settings.width:
        wanted = np.reshape((settings.height, settings.width), (2, 1, 1))
        even = g("Div", g("Mul", others, _double(g, wanted)), _double(g, wanted[::-1]))
        even = g("Round", even)  # halves to even
    if settings.fit != "pad":
        cut = g("Min", sizes, g("Max", even, _double(g, 1))) if settings.fit == "crop" else sizes
        if settings.kept < 1:
            cut = g("Max", g("Round", g("Mul", cut, _double(g, settings.kept))), _double(g, 1))
        return Side(cut, zero, _half(g, g("Sub", sizes, cut)), cut)
    whole = g("Max", sizes, even)
    return Side(whole, _half(g, g("Sub", whole, sizes)), zero, sizes)


def _one_side(g: Nodes, sides: Side, axis: int) -> Side:
    def part(name: str) -> str:
        return g("Squeeze", g("Gather", name, g.constant(axis, np.int64)))

    return Side(part(sides.whole), part(sides.offset), part(sides.first), part(sides.used))


def _grey(g: Nodes, images: str) -> str:
    """uint8 (n, h, w, 3) -> uint8 (n, 1, h, w); sums are exact: whole numbers of 65536ths, at most 2**24."""
    colours = g("Transpose", g("Reshape", images, g.integers(-1, 3)), perm=[1, 0])
    shares = g.constant([[share / 65536 for share in _GREY]])
    grey = g("Cast", g("Gemm", shares, g("Cast", colours, to=_FLOAT), g.constant([0.5])), to=_UINT8)  # rounds down
    shape = g("Concat", g("Shape", images, end=1), g.integers(1), g("Shape", images, start=1, end=3), axis=0)
    return g("Reshape", grey, shape)


def _area(g: Nodes, sizes: str) -> str:
    """The product of two float64; onnxruntime 1.18 has no ReduceProd for these."""
    return g("Mul", *(g("Gather", sizes, g.constant(axis, np.int64)) for axis in (0, 1)))


def _dark(g: Nodes, grey: str, area: str) -> str:
    """Whether an image's mean grey is below 127.5, bool (n, 1, 1, 1)."""
    ones = g("ConstantOfShape", g("Concat", g("Shape", grey, start=3), g.integers(1), axis=0), value=_ONE)
    lines = g("Cast", g("MatMulInteger", grey, ones), to=_DOUBLE)
    return g("Less", g("ReduceSum", lines, g.integers(2), keepdims=1), g("Mul", area, _double(g, 127.5)))


def _weights(g: Nodes, side: Side, wanted: int, settings: Preprocessing, *, down: bool = False) -> tuple[str, str]:
    """Weight of each pixel of a side, (wanted, used), in steps; 255 times the weight of the canvas, (wanted, 1).

    down: both transposed. This is done before the weights are rounded, because onnxruntime up to 1.25 fuses a transpose
    with the product behind it to an operator that it does not have for float64.
    """
    across = 0 if down else 1  # the axis of pixels
    scale = g("Div", side.whole, _double(g, wanted))
    stretch = g("Max", scale, _double(g, 1))
    centers = g("Mul", g.constant(np.arange(wanted)[:, None] + 0.5, np.float64), scale)
    pixels = g("Range", _double(g, 0), side.whole, _double(g, 1))
    reach = g("Mul", stretch, _double(g, _REACH[settings.resize]))
    first, last = (g("Floor", g("Add", g(add, centers, reach), _double(g, 0.5))) for add in ("Sub", "Add"))
    near = g("And", g("GreaterOrEqual", pixels, first), g("Less", pixels, last))
    apart = g("Add", g("Sub", pixels, centers), _double(g, 0.5))
    weights = _filter(g, g("Mul", apart, g("Reciprocal", stretch)), settings.resize)
    weights = g("Where", near, weights, _double(g, 0))
    weights = g("Mul", g("Div", weights, g("ReduceSum", weights, g.integers(1), keepdims=1)), _double(g, _STEPS))
    weights = g("Transpose", weights, perm=[1, 0]) if down else weights
    weights = g("Mul", g("Sign", weights), g("Floor", g("Add", g("Abs", weights), _double(g, 0.5))))
    if settings.fit != "pad":
        return weights, _double(g, [[0]])
    everything = g("ReduceSum", weights, g.integers(across), keepdims=1)
    start, end = (
        g("Cast", g("Unsqueeze", part, g.integers(0)), to=_INT64)
        for part in (side.offset, g("Add", side.offset, side.used))
    )
    weights = g("Slice", weights, start, end, g.integers(across))
    canvas = g("Sub", everything, g("ReduceSum", weights, g.integers(across), keepdims=1))
    return weights, g("Mul", canvas, _double(g, 255))


def _filter(g: Nodes, apart: str, resize: Literal["nearest", "box", "bilinear", "bicubic"]) -> str:
    """Weights of pixels at these distances from the centre, before scaling to a sum of 1."""
    x = g("Abs", apart)
    if resize == "bilinear":
        return g("Max", g("Sub", _double(g, 1), x), _double(g, 0))
    near = g("Sub", g("Mul", x, _double(g, 1.5)), _double(g, 2.5))
    near = g("Add", g("Mul", g("Mul", near, x), x), _double(g, 1))
    far = g("Add", g("Mul", g("Sub", x, _double(g, 5)), x), _double(g, 8))
    far = g("Mul", g("Sub", g("Mul", far, x), _double(g, 4)), _double(g, -0.5))
    far = g("Where", g("Less", x, _double(g, 2)), far, _double(g, 0))
    return g("Where", g("Less", x, _double(g, 1)), near, far)


def _nearest(g: Nodes, x: str, side: Side, wanted: int, axis: int) -> str:
    """Nearest pixels along an axis, `wanted` of them; white outside the image."""
    scale = g("Div", side.whole, _double(g, wanted))
    strides = g("Mul", scale, g.constant([0.5, *[1.0] * (wanted - 1)], np.float64))
    # a running sum, because Pillow's has the same rounding errors
    taken = g("Floor", g("CumSum", strides, g.constant(0, np.int64)))
    taken = g("Sub", g("Add", taken, side.first), side.offset)
    last = g("Sub", g("Add", side.first, side.used), _double(g, 1))
    inside = g("Max", g("Min", taken, last), side.first)
    shape = g.integers(*(wanted if i == axis else 1 for i in range(4)))
    there = g("Reshape", g("Equal", inside, taken), shape)
    x = g("Cast", g("Gather", x, g("Cast", inside, to=_INT64), axis=axis), to=_FLOAT)
    return g("Where", there, x, g.scalar(255))


def _eight_bits(g: Nodes, sums: str, white: str) -> str:
    """Sums in steps, plus the white canvas, rounded half up to whole numbers from 0 to 255."""
    parts = g("Mul", g("Add", sums, white), _double(g, 1 / _STEPS))
    rounded = g("Floor", g("Add", parts, _double(g, 0.5)))
    return g("Max", g("Min", rounded, _double(g, 255)), _double(g, 0))


def _half(g: Nodes, size: str) -> str:
    return g("Floor", g("Mul", size, _double(g, 0.5)))


def _double(g: Nodes, value: object) -> str:
    return g.constant(value, np.float64)


def box_resized(
    g: Nodes, x: str, whole: str, offset: str, used: str, wanted: tuple[int, int], dark: str | None, padded: bool
) -> str:
    """uint8 (n, channels, height, width) -> float32 (n, channels, *wanted), whole numbers from 0 to 255.

    whole, offset, used: as in `Side`, float64 (2, 1, 1), for rows and columns. dark: bool (n, 1, 1, 1), the images to
    invert, on a canvas that stays white. padded: whether the canvas is larger than the image.
    """
    edges = _boxes(g, whole, wanted)
    first, last = g.several("Split", 2, edges, axis=1, num_outputs=2)
    count = inside = g("Sub", last, first)
    if padded:
        edges = g("Min", g("Max", g("Sub", edges, offset), _double(g, 0)), used)
        first, last = g.several("Split", 2, edges, axis=1, num_outputs=2)
        inside = g("Sub", last, first)
    steps = g("Floor", g("Add", g("Div", _double(g, _STEPS), count), _double(g, 0.5)))
    canvas = g("Sub", count, inside)
    whites = canvas if dark is None else g("Concat", canvas, count, axis=1)
    whites = g("Mul", whites, g("Mul", steps, _double(g, 255 / _STEPS)))
    lines = [edges, g("Mul", steps, _double(g, 1 / _STEPS)), g("Add", whites, _double(g, 0.5))]
    n = 4 if dark is None else 5
    sides = g.several("Split", 2, g("Concat", *lines, axis=1), axis=0, num_outputs=2)  # each (1, n, wanted)
    rows, columns = (_cut(g, side, size, max(wanted)) for side, size in zip(sides, wanted, strict=True))

    first, last, weight, white, *all_white = g.several("Split", n, columns, axis=1, num_outputs=n)
    under = _under(g, g("Unsqueeze", _positions(g, used, 1), g.integers(1)), first, last)
    sums = g("MatMulInteger", x, g("Cast", under, to=_T.INT8))
    if dark is not None:
        weight = g("Where", dark, g("Neg", weight), weight)
        white = g("Where", dark, all_white[0], white)
    x = g("Cast", _parts(g, sums, weight, white), to=_T.UINT8)  # rounds down

    tall = g.several("Split", n, g("Reshape", rows, g.integers(n, -1, 1)), axis=0, num_outputs=n)
    under = _under(g, _positions(g, used, 0), *tall[:2])
    sums = g("MatMulInteger", g("Cast", under, to=_T.UINT8), x)
    return g("Cast", g("Floor", _parts(g, sums, *tall[2:4])), to=_T.FLOAT)


def _boxes(g: Nodes, whole: str, wanted: tuple[int, int]) -> str:
    """For each side the first pixel under each box and the one after the last, float64 (2, 2, max(wanted))."""
    sides = np.array(wanted, np.float64)[:, None, None]
    scale = g("Div", whole, _double(g, sides))
    stretch = g("Max", scale, _double(g, 1))
    centers = g("Mul", scale, _double(g, np.arange(max(wanted)) + 0.5))
    ends = g("Add", centers, g("Mul", stretch, _double(g, [[-0.5], [0.5]])))
    outer = g("Add", g("Floor", g("Add", ends, _double(g, 0.5))), _double(g, [[0], [-1]]))
    # the filter drops an outermost pixel on its left edge, and one that rounding puts beyond its right edge
    apart = g("Mul", g("Add", g("Sub", outer, centers), _double(g, 0.5)), g("Reciprocal", stretch))
    return g("Add", outer, g("Cast", g("LessOrEqual", apart, _double(g, [[-0.5], [0.5]])), to=_T.DOUBLE))


def _cut(g: Nodes, side: str, size: int, most: int) -> str:
    return side if size == most else g("Slice", side, g.integers(0), g.integers(size), g.integers(2))


def _positions(g: Nodes, used: str, axis: int) -> str:
    return g("Range", _double(g, 0), g("Squeeze", g("Gather", used, g.constant(axis, np.int64))), _double(g, 1))


def _under(g: Nodes, positions: str, first: str, last: str) -> str:
    return g("And", g("GreaterOrEqual", positions, first), g("Less", positions, last))


def _parts(g: Nodes, sums: str, weight: str, white: str) -> str:
    """The pixels before rounding down, float64."""
    return g("Add", g("Mul", g("Cast", sums, to=_T.DOUBLE), weight), white)
