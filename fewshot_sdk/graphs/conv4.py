"""Conv4 as ONNX nodes."""

from __future__ import annotations

import numpy as np

from fewshot_sdk.config.backbones import Conv4
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes, pads
from fewshot_sdk.graphs.weights import Tensor, normed


def features(
    g: Nodes, x: str, tensor: Tensor, backbone: Conv4, preprocessing: Preprocessing, kind: type[np.floating]
) -> str:  # fmt: skip
    """The features, (n, filters, height, width); ReLU comes before the pool, which gives the same result."""
    sizes = [preprocessing.height, preprocessing.width]
    stride = 2 if backbone.downsample == "stride" else 1
    for i in range(1, 5):
        weights = tensor(f"conv{i}.weight", 4), tensor(f"conv{i}.bias")
        x = g("Conv", x, *weights, strides=[stride, stride], pads=pads(sizes, 3, stride))
        x = g("Relu", normed(g, x, tensor, i, backbone, kind, images=True))
        if backbone.downsample == "pool":
            x = g("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        sizes = [-(-size // 2) for size in sizes]
    g.summarized.append(x)
    return x
