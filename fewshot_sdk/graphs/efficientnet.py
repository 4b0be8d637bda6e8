"""EfficientNet-Lite as ONNX nodes, in forms that onnxruntime fuses: a convolution and the Clip behind it are one."""

from __future__ import annotations

import numpy as np

from fewshot_sdk.config.backbones import EfficientNet
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes, pads
from fewshot_sdk.graphs.summaries import even, statistics
from fewshot_sdk.graphs.weights import Tensor


def features(
    g: Nodes, x: str, tensor: Tensor, backbone: EfficientNet, preprocessing: Preprocessing, kind: type[np.floating]
) -> str:  # fmt: skip
    """The features, (n, n_features): the summary over positions, scaled to one length."""
    sides = [preprocessing.height, preprocessing.width]
    outputs = stages(g, x, tensor, backbone, sides, kind)
    x = _convolution(g, outputs[-1], tensor, "top", sides, kind)
    if backbone.summary == "statistics":
        widths = [*(stage.width for stage in backbone.stages), backbone.top][-backbone.summarized :]
        last = [*outputs, x][-backbone.summarized :]
        g.summarized += reversed(last)
        return even(g, statistics(g, last), [width for width in reversed(widths) for _ in range(2)], kind)
    g.summarized.append(x)
    mean = g("GlobalAveragePool", x)
    if backbone.summary == "roots":
        mean = g("Sqrt", g("Sub", mean, g.constant(-1e-6, kind)))  # an Add would become an integer in 8 bits
    return even(g, [mean], [backbone.top], kind)


def stages(
    g: Nodes, x: str, tensor: Tensor, backbone: EfficientNet, sides: list[int], kind: type[np.floating],
    last: int | None = None,
) -> list[str]:  # fmt: skip
    """The outputs of the stages up to the `last`, None: all. sides: of the pictures, and afterwards of that output."""
    x = _convolution(g, x, tensor, "stem", sides, kind, size=3, stride=2)
    channels, outputs = backbone.stem, []
    for i, stage in enumerate(backbone.stages[:last], 1):
        for j in range(1, stage.blocks + 1):
            block, stride = f"stage{i}.block{j}", stage.stride if j == 1 else 1
            y = _convolution(g, x, tensor, f"{block}.expand", sides, kind) if stage.expansion > 1 else x
            y = _convolution(
                g, y, tensor, f"{block}.depthwise", sides, kind, size=stage.kernel, stride=stride,
                groups=channels * stage.expansion,
            )  # fmt: skip
            y = _convolution(g, y, tensor, f"{block}.project", sides, kind, linear=True)
            x = g("Add", x, y) if stride == 1 and channels == stage.width else y
            channels = stage.width
        outputs.append(x)
    return outputs


def _convolution(
    g: Nodes, x: str, tensor: Tensor, name: str, sides: list[int], kind: type[np.floating], *,
    size: int = 1, stride: int = 1, groups: int = 1, linear: bool = False,
) -> str:  # fmt: skip
    """A convolution and its Clip; `sides` become those of its output."""
    weights = tensor(f"{name}.conv.weight", 4), tensor(f"{name}.conv.bias")
    around = pads(sides, size, stride)
    sides[:] = [-(-side // stride) for side in sides]
    x = g("Conv", x, *weights, kernel_shape=[size, size], strides=[stride, stride], pads=around, group=groups)
    return x if linear else g("Clip", x, g.constant(0, kind), g.constant(6, kind))
