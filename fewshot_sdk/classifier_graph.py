"""An adapted Conv4 classifier as an ONNX graph, from its tensors; the same answers as PyTorch's own export."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.config import Conv4, Preprocessing
from fewshot_sdk.onnx_nodes import Nodes, value
from fewshot_sdk.runtime import INPUT, OUTPUT


def classifier_graph(
    tensors: Mapping[str, NDArray[np.float32]] | None, backbone: Conv4, seen: Preprocessing
) -> onnx.ModelProto:
    """`images` uint8 (batch, height, width, channels) in, `probabilities` (batch, n_way) out; no metadata.

    tensors: weights and frozen statistics by their names in PyTorch; None makes inputs of them, by these names,
    so that one graph serves all classifiers of any number of classes.
    """
    g = Nodes()
    given: list[onnx.ValueInfoProto] = []

    def tensor(name: str, dimensions: int = 1) -> str:
        if tensors is not None:
            return g.constant(tensors[name])
        given.append(value(name, np.float32, *(f"{name} {side}" for side in range(dimensions))))
        return name

    stride = 2 if backbone.downsample == "stride" else 1
    x = g("Div", g("Cast", INPUT, to=onnx.TensorProto.FLOAT), g.scalar(255))
    x = g("Div", g("Sub", x, g.constant(seen.mean)), g.constant(seen.std))
    x = g("Transpose", x, perm=[0, 3, 1, 2])
    sizes = [seen.height, seen.width]
    for i in range(1, 5):
        after = [-(-size // stride) for size in sizes]
        missing = [max((now - 1) * stride + 3 - size, 0) for now, size in zip(after, sizes, strict=True)]
        pads = [*(side // 2 for side in missing), *(side - side // 2 for side in missing)]
        x = g("Conv", x, tensor(f"conv{i}.weight", 4), tensor(f"conv{i}.bias"), strides=[stride, stride], pads=pads)
        norm = [tensor(f"norm{i}.{part}") for part in ("weight", "bias", "mean", "var")]
        x = g("BatchNormalization", x, *norm, epsilon=backbone.norm_epsilon)
        if backbone.downsample == "pool":
            x = g("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        x = g("Relu", x)
        sizes = [-(-size // 2) for size in sizes]
    head = [tensor("head.weight", 2), tensor("head.bias")]
    g.output(g("Softmax", g("Gemm", g("Flatten", x), *head, transB=1), axis=1), OUTPUT)
    images = value(INPUT, np.uint8, "batch", seen.height, seen.width, seen.channels)
    n_way = "n_way" if tensors is None else len(tensors["head.bias"])
    return g.model([images, *given], [value(OUTPUT, np.float32, "batch", n_way)])
