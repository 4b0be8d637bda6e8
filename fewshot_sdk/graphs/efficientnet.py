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

    def convolution(x: str, name: str, *, size: int = 1, stride: int = 1, groups: int = 1, linear: bool = False) -> str:
        weights = tensor(f"{name}.conv.weight", 4), tensor(f"{name}.conv.bias")
        around = pads(sides, size, stride)
        sides[:] = [-(-side // stride) for side in sides]
        x = g("Conv", x, *weights, kernel_shape=[size, size], strides=[stride, stride], pads=around, group=groups)
        return x if linear else g("Clip", x, g.constant(0, kind), g.constant(6, kind))

    channels, outputs = backbone.stem, []
    x = convolution(x, "stem", size=3, stride=2)
    for i, stage in enumerate(backbone.stages, 1):
        for j in range(1, stage.blocks + 1):
            block, stride = f"stage{i}.block{j}", stage.stride if j == 1 else 1
            y = convolution(x, f"{block}.expand") if stage.expansion > 1 else x
            y = convolution(
                y, f"{block}.depthwise", size=stage.kernel, stride=stride, groups=channels * stage.expansion
            )
            y = convolution(y, f"{block}.project", linear=True)
            x = g("Add", x, y) if stride == 1 and channels == stage.width else y
            channels = stage.width
        outputs.append(x)
    x = convolution(x, "top")
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
