"""The ONNX graph of an inspector: the network, the distance of each patch to the memory, the score and the answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.config.backbones import EfficientNet
from fewshot_sdk.config.inspection import FARTHEST, GOOD, SCORE, PatchSettings
from fewshot_sdk.config.onnx_file import HEAT_MAP, PIXELS, THRESHOLD
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.efficientnet import stages
from fewshot_sdk.graphs.nodes import Nodes, value
from fewshot_sdk.graphs.versions import OPSET

_FLOAT = onnx.TensorProto.FLOAT
_SHORTEST = 1e-12
Arrays = Mapping[str, NDArray[np.float32]]


def inspector_graph(
    tensors: Arrays, parts: Arrays, backbone: EfficientNet, preprocessing: Preprocessing, settings: PatchSettings,
    *, limit: float | None, half: bool = False, opset: int = OPSET,
) -> onnx.ModelProto:  # fmt: skip
    """The graph from `pixels`, float32 (batch, channels, height, width), to `good`, `score` and `heat_map`.

    tensors: the network's weights; parts: `memory`, `centre`, `whitening`, see `nets.patches`. limit: the default of
    the optional input `threshold`, float32 (); None: one that no score passes.
    half: the network computes, and the memory is stored, in 16 bits.
    """
    g, kind = Nodes(), np.float16 if half else np.float32
    sides = [preprocessing.height, preprocessing.width]

    def tensor(name: str, dimensions: int = 1) -> str:  # noqa: ARG001
        return g.constant(tensors[name], kind)

    x = g("Cast", PIXELS, to=onnx.TensorProto.FLOAT16) if half else PIXELS
    outputs = stages(g, x, tensor, backbone, sides, kind, max(settings.stages))
    grids = _grids(backbone, preprocessing)
    finest = max(grids[stage - 1] for stage in settings.stages)
    joined = [
        _on_grid(g, outputs[stage - 1], settings.neighbourhood, grids[stage - 1], finest) for stage in settings.stages
    ]
    rows = g("Concat", *joined, axis=1) if len(joined) > 1 else joined[0]
    channels, positions = len(parts["centre"]), finest[0] * finest[1]
    rows = g("Transpose", g("Reshape", rows, g.integers(-1, channels, positions)), perm=[0, 2, 1])
    rows = g("MatMul", g("Sub", rows, g.constant(parts["centre"])), g.constant(parts["whitening"]))
    length = g("ReduceL2", rows, g.integers(2), keepdims=1)
    rows = g("Div", rows, g("Max", length, g.scalar(_SHORTEST)))
    memory = g.constant(parts["memory"].T, kind)
    nearest = g(
        "ReduceMax", g("MatMul", rows, g("Cast", memory, to=_FLOAT) if half else memory), g.integers(2), keepdims=0
    )
    distance = g("Sub", g.scalar(1), g("Clip", nearest, g.scalar(-1), g.scalar(1)))
    top = g.several("TopK", 2, distance, g.integers(min(settings.top, positions)), axis=1)[0]
    score = g("ReduceMean", top, g.integers(1), keepdims=0)
    g.output(g("LessOrEqual", score, THRESHOLD), GOOD)
    g.output(score, SCORE)
    g.output(g("Reshape", distance, g.integers(-1, *finest)), HEAT_MAP)
    pixels = value(PIXELS, np.float32, "batch", preprocessing.channels, preprocessing.height, preprocessing.width)
    given = {THRESHOLD: np.array(FARTHEST if limit is None else limit, np.float32)}
    outs = [
        value(GOOD, np.bool_, "batch"), value(SCORE, np.float32, "batch"),
        value(HEAT_MAP, np.float32, "batch", *finest),
    ]  # fmt: skip
    return g.model([pixels, value(THRESHOLD, np.float32)], outs, given, opset=opset)


def _on_grid(g: Nodes, x: str, neighbourhood: int, found: tuple[int, int], wanted: tuple[int, int]) -> str:
    """A stage's output, averaged over neighbourhoods, at the positions of the finest grid: float32 (n, c, h, w)."""
    x, around = g("Cast", x, to=_FLOAT), neighbourhood // 2
    if around:
        x = g("AveragePool", x, kernel_shape=[neighbourhood] * 2, strides=[1, 1], pads=[around] * 4)
    if found == wanted:
        return x
    scales = [1, 1, *(many / few for many, few in zip(wanted, found, strict=True))]
    return g("Resize", x, "", g.constant(scales), mode="linear")


def _grids(backbone: EfficientNet, preprocessing: Preprocessing) -> list[tuple[int, int]]:
    """Rows and columns of each stage's output."""
    height, width = (-(-side // 2) for side in (preprocessing.height, preprocessing.width))
    found = []
    for stage in backbone.stages:
        height, width = -(-height // stage.stride), -(-width // stage.stride)
        found.append((height, width))
    return found
