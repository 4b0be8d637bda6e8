"""The heat map of a classifier as ONNX nodes: the same as `nets.heat_maps`, for the most probable class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.config.backbones import Backbone
from fewshot_sdk.graphs.nodes import Nodes
from fewshot_sdk.images.grids import Sides, common_sides, overlaps

Shape = tuple[int, int, int]  # channels, height, width
_FLOAT = onnx.TensorProto.FLOAT
_SHORTEST, _ROOT_FLOOR, _TINY = 1e-12, 1e-6, 1e-30


def heat_map(
    g: Nodes,
    layers: Sequence[str],
    shapes: Sequence[Shape],
    label: str,
    weight: str,
    mean: NDArray[np.float32] | None,
    backbone: Backbone,
    temperature: float,
) -> str:
    """What each position adds to the logit of class `label`, (batch,), above the mean logit: (batch, h, w).

    layers: the outputs that the features summarize, in the features' order; shapes: channels, height, width of each.
    weight: the head's rows; mean: the mean row, None: it is computed.
    Sums are by ReduceMean, since GlobalAveragePool would be quantized.
    """
    rows = g("Cast", g("Gather", weight, label, axis=0), to=_FLOAT)
    middle = g.constant(mean) if mean is not None else g("ReduceMean", weight, g.integers(0), keepdims=0)
    rows = g("Div", g("Sub", rows, middle), g.scalar(temperature))
    layers = [g("Cast", x, to=_FLOAT) for x in layers]
    summary = getattr(backbone, "summary", "flat")
    if summary == "flat":
        (x,) = layers
        return g("ReduceSum", g("Mul", x, g("Reshape", rows, g("Shape", x))), g.integers(1), keepdims=0)
    maps, first = [], 0
    grid = common_sides([(height, width) for _, height, width in shapes])
    length = (sum(channels for channels, _, _ in shapes) / len(shapes)) ** 0.5
    for x, (channels, *sides) in zip(layers, shapes, strict=True):
        for kind in ("mean", "deviation") if summary == "statistics" else (summary,):
            part = g("Slice", rows, g.integers(first), g.integers(first + channels), g.integers(1))
            heat = _part(g, x, g("Unsqueeze", part, g.integers(2, 3)), kind, length / (sides[0] * sides[1]))
            maps.append(_on_grid(g, heat, (sides[0], sides[1]), grid))
            first += channels
    return maps[0] if len(maps) == 1 else g("Sum", *maps)


def _part(g: Nodes, x: str, rows: str, kind: str, factor: float) -> str:
    """One part of the features, distributed over positions and times its weights `rows`, (batch, channels, 1, 1)."""
    part = mean = g("ReduceMean", x, g.integers(2, 3), keepdims=1)
    if kind == "roots":
        x = g("Sub", x, g.scalar(-_ROOT_FLOOR))
        part = g("Sqrt", g("Sub", mean, g.scalar(-_ROOT_FLOOR)))
        rows = g("Div", rows, part)
    elif kind == "deviation":
        apart = g("Sub", x, mean)
        squares = g("Mul", apart, apart)
        part = g("Sqrt", g("ReduceMean", squares, g.integers(2, 3), keepdims=1))
        x = g("Div", squares, g("Max", part, g.scalar(_TINY)))  # not the rows, which could become infinite
    length = g("Max", g("ReduceL2", part, g.integers(1), keepdims=1), g.scalar(_SHORTEST))
    rows = g("Div", g("Mul", rows, g.scalar(factor)), length)
    return g("ReduceSum", g("Mul", x, rows), g.integers(1), keepdims=0)


def _on_grid(g: Nodes, heat: str, sides: Sides, grid: Sides) -> str:
    if sides == grid:
        return heat
    height, width = (overlaps(*each) for each in zip(sides, grid, strict=True))
    return g("MatMul", g("MatMul", g.constant(height), heat), g.constant(width.T))
