"""A residual network as ONNX nodes."""

from __future__ import annotations

import numpy as np

from fewshot_sdk.config.backbones import Residual
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes
from fewshot_sdk.graphs.summaries import even, statistics
from fewshot_sdk.graphs.weights import Tensor


def features(
    g: Nodes, x: str, tensor: Tensor, backbone: Residual, preprocessing: Preprocessing, kind: type[np.floating]  # noqa: ARG001
) -> str:  # fmt: skip
    """The features, (n, n_features): the summary over positions, scaled to one length."""

    def convolution(x: str, name: str, stride: int, padding: int = 1) -> str:
        weights = tensor(f"{name}.conv.weight", 4), tensor(f"{name}.conv.bias")
        return g("Conv", x, *weights, strides=[stride, stride], pads=[padding] * 4)

    blocks: list[str] = []
    x = g("Relu", convolution(x, "stem", 2))
    for i in range(1, len(backbone.widths) + 1):
        block, stride = f"block{i}", 1 if i == 1 else 2
        y = convolution(g("Relu", convolution(x, f"{block}.first", stride)), f"{block}.second", 1)
        if i > 1:
            x = convolution(x, f"{block}.shortcut", stride, padding=0)
        x = g("Relu", g("Add", y, x))
        blocks.append(x)
    g.summarized += reversed(blocks[-2:] if backbone.summary == "statistics" else blocks[-1:])
    if backbone.summary == "statistics":
        widths = [width for width in reversed(backbone.widths[-2:]) for _ in range(2)]
        return even(g, statistics(g, blocks[-2:]), widths, kind)
    return even(g, [g("GlobalAveragePool", x)], backbone.widths[-1:], kind)
