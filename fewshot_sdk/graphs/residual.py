"""A residual network as ONNX nodes."""

from __future__ import annotations

import numpy as np
import onnx

from fewshot_sdk.config.backbones import Residual
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes
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
    parts, widths = [g("GlobalAveragePool", x)], backbone.widths[-1:]
    g.summarized += reversed(blocks[-2:] if backbone.summary == "statistics" else blocks[-1:])
    if backbone.summary == "statistics":
        parts, widths = [part for x in reversed(blocks[-2:]) for part in _statistics(g, x)], backbone.widths[-2:]
    even = [_normalized(g, g("Cast", g("Flatten", part), to=onnx.TensorProto.FLOAT)) for part in parts]
    found = g("Concat", *even, axis=1) if len(even) > 1 else even[0]
    found = g("Mul", found, g.scalar((sum(widths) / len(widths)) ** 0.5))
    return g("Cast", found, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)))


def _statistics(g: Nodes, x: str) -> tuple[str, str]:
    """Mean and standard deviation over positions, (n, filters, 1, 1), in float32."""
    x = g("Cast", x, to=onnx.TensorProto.FLOAT)
    mean = g("GlobalAveragePool", x)
    apart = g("Sub", x, mean)
    return mean, g("Sqrt", g("GlobalAveragePool", g("Mul", apart, apart)))


def _normalized(g: Nodes, x: str) -> str:
    return g("Div", x, g("Max", g("ReduceL2", x, g.integers(1), keepdims=1), g.scalar(1e-12)))
