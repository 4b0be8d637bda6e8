"""Resizing by Pillow's box filter in ONNX operators, bit for bit: counting pixels in 8-bit products.

The box filter weighs all pixels under it alike, by 1 / their number, kept as whole multiples of 2**-22. So each pass is
one product of bytes with zeros and ones, and one multiplication of its sums, exact in double precision. What depends on
the sizes alone is reckoned for both sides at once, in few operators: one picture takes longer to dispatch them than to
compute. Boxes are of up to 16,448 pixels: a sum of more, rounded, could be 256.  Source: `Resample.c`.
"""

from __future__ import annotations

import numpy as np
import onnx

from fewshot_sdk.graphs.nodes import Nodes

_T = onnx.TensorProto
_STEPS = 2.0**22  # Pillow keeps that many steps between 0 and 1 of each weight


def box_resized(
    g: Nodes, x: str, whole: str, offset: str, used: str, wanted: tuple[int, int], dark: str | None, padded: bool
) -> str:
    """uint8 (n, channels, height, width) -> float32 (n, channels, *wanted): whole numbers from 0 to 255.

    whole, offset, used: float64 (2, 1, 1), of rows and columns: the sides of what is resized or of the canvas under
    it, where on that the picture begins, and how many of its pixels there are. dark: bool (n, 1, 1, 1), which pictures
    are inverted, on a canvas that stays white. padded: whether there is more canvas than picture.
    """
    edges = _boxes(g, whole, wanted)
    first, last = g.several("Split", 2, edges, axis=1, num_outputs=2)
    count = seen = g("Sub", last, first)
    if padded:
        edges = g("Min", g("Max", g("Sub", edges, offset), _double(g, 0)), used)
        first, last = g.several("Split", 2, edges, axis=1, num_outputs=2)
        seen = g("Sub", last, first)
    steps = g("Floor", g("Add", g("Div", _double(g, _STEPS), count), _double(g, 0.5)))
    canvas = g("Sub", count, seen)
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
    """float64 (2, 2, the larger wanted): of each side, the first pixel under each box, and the one after the last."""
    sides = np.array(wanted, np.float64)[:, None, None]
    scale = g("Div", whole, _double(g, sides))
    stretch = g("Max", scale, _double(g, 1))
    centers = g("Mul", scale, _double(g, np.arange(max(wanted)) + 0.5))
    ends = g("Add", centers, g("Mul", stretch, _double(g, [[-0.5], [0.5]])))
    outer = g("Add", g("Floor", g("Add", ends, _double(g, 0.5))), _double(g, [[0], [-1]]))
    # the outermost pixels, of which the filter leaves out what lies on its left edge, or beyond the right by rounding
    apart = g("Mul", g("Add", g("Sub", outer, centers), _double(g, 0.5)), g("Reciprocal", stretch))
    return g("Add", outer, g("Cast", g("LessOrEqual", apart, _double(g, [[-0.5], [0.5]])), to=_T.DOUBLE))


def _cut(g: Nodes, side: str, size: int, most: int) -> str:
    return side if size == most else g("Slice", side, g.integers(0), g.integers(size), g.integers(2))


def _positions(g: Nodes, used: str, axis: int) -> str:
    return g("Range", _double(g, 0), g("Squeeze", g("Gather", used, g.constant(axis, np.int64))), _double(g, 1))


def _under(g: Nodes, positions: str, first: str, last: str) -> str:
    return g("And", g("GreaterOrEqual", positions, first), g("Less", positions, last))


def _parts(g: Nodes, sums: str, weight: str, white: str) -> str:
    """Float64: the pixels, before they are rounded down."""
    return g("Add", g("Mul", g("Cast", sums, to=_T.DOUBLE), weight), white)


def _double(g: Nodes, value: object) -> str:
    return g.constant(value, np.float64)
