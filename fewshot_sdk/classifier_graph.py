"""An adapted classifier as an ONNX graph, from its tensors: the network, and the preprocessing before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.config import Backbone, Conv4, Preprocessing, Residual
from fewshot_sdk.onnx_nodes import OPSET, Nodes, value
from fewshot_sdk.picture_nodes import network_pixels
from fewshot_sdk.runtime import INPUT, KNOWN, LABEL, OUTPUT, PIXELS

Tensors = Mapping[str, NDArray[np.float32]]


def network_graph(
    tensors: Tensors, backbone: Backbone, seen: Preprocessing, *,
    temperature: float = 1.0, threshold: float = 0.0, half: bool = False, opset: int = OPSET,
) -> onnx.ModelProto:  # fmt: skip
    """`pixels`, float32 (batch, channels, height, width) as the network takes them, to label, probabilities and known.

    tensors: weights and frozen statistics by their names in PyTorch. half: the network keeps and computes 16 bits.
    """
    g = Nodes()
    kind = np.float16 if half else np.float32
    x = g("Cast", PIXELS, to=onnx.TensorProto.FLOAT16) if half else PIXELS
    if isinstance(backbone, Conv4):
        x = _conv4(g, x, tensors, backbone, (seen.height, seen.width), kind)
    else:
        x = _residual(g, x, tensors, backbone, kind)
    head = [g.constant(tensors[f"head.{part}"], kind) for part in ("weight", "bias")]
    logits = g("Gemm", g("Flatten", x), *head, transB=1, alpha=1 / temperature, beta=1 / temperature)
    rows = g("Softmax", g("Cast", logits, to=onnx.TensorProto.FLOAT) if half else logits, axis=1)
    best = g("ReduceMax", rows, g.integers(1), keepdims=0)
    g.output(g("ArgMax", rows, axis=1, keepdims=0), LABEL)
    g.output(rows, OUTPUT)
    g.output(g("GreaterOrEqual", best, g.scalar(threshold)), KNOWN)
    pixels = value(PIXELS, np.float32, "batch", seen.channels, seen.height, seen.width)
    n_way = len(tensors["head.bias"])
    outputs = [
        value(LABEL, np.int64, "batch"), value(OUTPUT, np.float32, "batch", n_way), value(KNOWN, np.bool_, "batch"),
    ]  # fmt: skip
    return g.model([pixels], outputs, opset=opset)


def with_preprocessing(network: onnx.ModelProto, seen: Preprocessing) -> onnx.ModelProto:
    """The same behind the preprocessing: `images`, uint8 (batch, height, width, 3) of any size, instead of `pixels`."""
    g = Nodes()
    x = g("Div", network_pixels(g, INPUT, seen), g.scalar(255))
    mean, std = (g.constant(np.reshape(values, (1, -1, 1, 1))) for values in (seen.mean, seen.std))
    g.output(g("Div", g("Sub", x, mean), std), PIXELS)
    opset = next(entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx"))
    images = value(INPUT, np.uint8, "batch", "height", "width", 3)
    pixels = value(PIXELS, np.float32, "batch", seen.channels, seen.height, seen.width)
    first = g.model([images], [pixels], opset=opset)
    first.ir_version = network.ir_version
    whole = onnx.compose.merge_models(
        onnx.compose.add_prefix(first, "seen_", rename_inputs=False, rename_outputs=False), network, [(PIXELS, PIXELS)]
    )
    whole.producer_name, whole.graph.name = network.producer_name, network.graph.name
    onnx.checker.check_model(whole, full_check=True)
    return whole


def _conv4(g: Nodes, x: str, tensors: Tensors, backbone: Conv4, sizes: Sequence[int], kind: type[np.floating]) -> str:
    """The features: norms are folded into the kernels before them; ReLU comes before the pool, which is the same."""
    stride = 2 if backbone.downsample == "stride" else 1
    for i in range(1, 5):
        x = _convolution(g, x, *_folded(tensors, i, backbone.norm_epsilon), stride, _same(sizes, stride), kind)
        x = g("Relu", x)
        if backbone.downsample == "pool":
            x = g("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        sizes = [-(-size // 2) for size in sizes]
    return x


def _folded(tensors: Tensors, layer: int, epsilon: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernel and bias that do what a convolution and its frozen norm do one after the other."""
    kernel, bias, gamma, beta, mean, variance = (
        tensors[f"{name}{layer}.{part}"].astype(np.float64)
        for name, parts in (("conv", ("weight", "bias")), ("norm", ("weight", "bias", "mean", "var")))
        for part in parts
    )
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale[:, None, None, None], (bias - mean) * scale + beta


def _same(sizes: Sequence[int], stride: int) -> list[int]:
    """TensorFlow's "same" padding of a 3x3 convolution: top, left, bottom, right."""
    missing = [max((-(-size // stride) - 1) * stride + 3 - size, 0) for size in sizes]
    return [*(more // 2 for more in missing), *(more - more // 2 for more in missing)]


def _residual(g: Nodes, x: str, tensors: Tensors, backbone: Residual, kind: type[np.floating]) -> str:
    """The features, (n, filters): the mean over positions, of one length."""

    def convolution(x: str, name: str, stride: int) -> str:
        kernel, bias = (tensors[f"{name}.conv.{part}"] for part in ("weight", "bias"))
        return _convolution(g, x, kernel, bias, stride, [kernel.shape[-1] // 2] * 4, kind)

    x = g("Relu", convolution(x, "stem", 2))
    for i in range(1, len(backbone.widths) + 1):
        block, stride = f"block{i}", 1 if i == 1 else 2
        y = convolution(g("Relu", convolution(x, f"{block}.first", stride)), f"{block}.second", 1)
        if f"{block}.shortcut.conv.weight" in tensors:
            x = convolution(x, f"{block}.shortcut", stride)
        x = g("Relu", g("Add", y, x))
    wide = g("Cast", g("Flatten", g("GlobalAveragePool", x)), to=onnx.TensorProto.FLOAT)
    length = g("Max", g("ReduceL2", wide, g.integers(1), keepdims=1), g.scalar(1e-12))
    even = g("Mul", g("Div", wide, length), g.scalar(backbone.widths[-1] ** 0.5))
    return g("Cast", even, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)))


def _convolution(
    g: Nodes, x: str, kernel: NDArray[np.floating], bias: NDArray[np.floating], stride: int, pads: list[int],
    kind: type[np.floating],
) -> str:  # fmt: skip
    parts = [g.constant(part, kind) for part in (kernel, bias)]
    return g("Conv", x, *parts, strides=[stride, stride], pads=pads)
