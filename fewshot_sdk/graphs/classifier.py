"""An adapted classifier as an ONNX graph, from its tensors: the network, and the preprocessing before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.config.backbones import GROUP, judges_alone
from fewshot_sdk.config.onnx_file import FEATURES, INPUT, KNOWN, LABEL, OUTPUT, PIXELS
from fewshot_sdk.config.recipe import Backbone, Conv4, Mlp, Preprocessing, Residual
from fewshot_sdk.errors import ExportError
from fewshot_sdk.graphs.nodes import OPSET, Nodes, value
from fewshot_sdk.graphs.preprocessing import network_pixels

Tensors = Mapping[str, NDArray[np.float32]]


class Tensor(Protocol):
    """The name that a tensor, by its name in PyTorch, has in the graph."""

    def __call__(self, name: str, dimensions: int = 1) -> str:
        """The name of the constant or the input."""


def network_graph(
    tensors: Tensors | None, backbone: Backbone, seen: Preprocessing, *,
    temperature: float = 1.0, threshold: float = 0.0, half: bool = False, opset: int = OPSET,
) -> onnx.ModelProto:  # fmt: skip
    """`pixels`, float32 (batch, channels, height, width) as the network takes them, to label, probabilities and known.

    tensors: weights and frozen statistics by their names in PyTorch; None makes inputs of what `folded` leaves of
    them, by these names, so that one graph serves all classifiers of any number of classes.
    half: the network keeps and computes 16 bits.
    """
    g = Nodes()
    kind = np.float16 if half else np.float32
    held = None if tensors is None else folded(tensors, backbone)
    given: list[onnx.ValueInfoProto] = []

    def tensor(name: str, dimensions: int = 1) -> str:
        if held is not None:
            return g.constant(held[name], kind)
        given.append(value(name, np.float32, *(f"{name} {side}" for side in range(dimensions))))
        return name

    x = g("Cast", PIXELS, to=onnx.TensorProto.FLOAT16) if half else PIXELS
    if isinstance(backbone, Conv4):
        x = _conv4(g, x, tensor, backbone, (seen.height, seen.width), kind)
    elif isinstance(backbone, Mlp):
        x = _mlp(g, x, tensor, backbone, kind)
    elif isinstance(backbone, Residual):
        x = _residual(g, x, tensor, backbone, kind)
    else:
        raise ExportError(f"a {backbone.kind} network is not written by these nodes; only its classifiers are exported")
    head = (tensor("head.weight", 2), tensor("head.bias"))
    _answers(g, g("Flatten", x), head, temperature, threshold, half)
    pixels = value(PIXELS, np.float32, "batch", seen.channels, seen.height, seen.width)
    n_way = "n_way" if tensors is None else len(tensors["head.bias"])
    return g.model([pixels, *given], _outputs(n_way), opset=opset)


def with_head(
    body: onnx.ModelProto, tensors: Tensors, *, temperature: float = 1.0, threshold: float = 0.0, opset: int = OPSET
) -> onnx.ModelProto:
    """The network of a body that was written elsewhere, from `pixels` to `features`: our head behind it."""
    g = Nodes()
    rows, bias = tensors["head.weight"], tensors["head.bias"]
    _answers(g, FEATURES, (g.constant(rows), g.constant(bias)), temperature, threshold)
    features = value(FEATURES, np.float32, "batch", rows.shape[1])
    head = g.model([features], _outputs(len(bias)), opset=opset)
    head.ir_version = body.ir_version
    head = onnx.compose.add_prefix(head, "head_", rename_inputs=False, rename_outputs=False)
    whole = onnx.compose.merge_models(body, head, [(FEATURES, FEATURES)])
    whole.producer_name, whole.producer_version, whole.graph.name = "fewshot-sdk", "", "fewshot"
    onnx.checker.check_model(whole, full_check=True)
    return whole


def _answers(g: Nodes, x: str, head: tuple[str, str], temperature: float, threshold: float, half: bool = False) -> None:
    """Features (n, n_features) to the outputs of the graph."""
    logits = g("Gemm", x, *head, transB=1, alpha=1 / temperature, beta=1 / temperature)
    rows = g("Softmax", g("Cast", logits, to=onnx.TensorProto.FLOAT) if half else logits, axis=1)
    best = g("ReduceMax", rows, g.integers(1), keepdims=0)
    g.output(g("ArgMax", rows, axis=1, keepdims=0), LABEL)
    g.output(rows, OUTPUT)
    g.output(g("GreaterOrEqual", best, g.scalar(threshold)), KNOWN)


def _outputs(n_way: int | str) -> list[onnx.ValueInfoProto]:
    return [
        value(LABEL, np.int64, "batch"), value(OUTPUT, np.float32, "batch", n_way), value(KNOWN, np.bool_, "batch"),
    ]  # fmt: skip


def with_preprocessing(network: onnx.ModelProto, seen: Preprocessing) -> onnx.ModelProto:
    """The same behind the preprocessing: `images`, uint8 (batch, height, width, 3) of any size, instead of `pixels`."""
    g = Nodes()
    x = g("Div", network_pixels(g, INPUT, seen), g.scalar(255))
    if any(seen.mean):
        x = g("Sub", x, g.constant(np.reshape(seen.mean, (1, -1, 1, 1))))
    if set(seen.std) != {1}:
        x = g("Div", x, g.constant(np.reshape(seen.std, (1, -1, 1, 1))))
    g.output(x, PIXELS)
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


def folded(tensors: Tensors, backbone: Backbone) -> dict[str, NDArray[np.floating]]:
    """The tensors that the graph takes: a frozen norm becomes part of the kernel and bias of the layer before."""
    if not isinstance(backbone, Conv4 | Mlp) or judges_alone(backbone):
        return dict(tensors)
    found: dict[str, NDArray[np.floating]] = {name: tensors[name] for name in ("head.weight", "head.bias")}
    for i in range(1, len(backbone.widths) + 1):
        layer = f"conv{i}" if isinstance(backbone, Conv4) else f"hidden{i}"
        gamma, beta, mean, variance = (
            tensors[f"norm{i}.{part}"].astype(np.float64) for part in ("weight", "bias", "mean", "var")
        )
        scale = gamma / np.sqrt(variance + backbone.norm_epsilon)
        kernel, bias = tensors[f"{layer}.weight"].astype(np.float64), tensors.get(f"{layer}.bias", np.zeros(1))
        found[f"{layer}.weight"] = kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))
        found[f"{layer}.bias"] = (bias - mean) * scale + beta
    return found


def _conv4(
    g: Nodes, x: str, tensor: Tensor, backbone: Conv4, sizes: Sequence[int], kind: type[np.floating]
) -> str:  # fmt: skip
    """The features; ReLU comes before the pool, which is the same."""
    stride = 2 if backbone.downsample == "stride" else 1
    for i in range(1, 5):
        weights = tensor(f"conv{i}.weight", 4), tensor(f"conv{i}.bias")
        x = g("Conv", x, *weights, strides=[stride, stride], pads=_same(sizes, stride))
        x = g("Relu", _normed(g, x, tensor, i, backbone, kind))
        if backbone.downsample == "pool":
            x = g("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        sizes = [-(-size // 2) for size in sizes]
    return x


def _mlp(g: Nodes, x: str, tensor: Tensor, backbone: Mlp, kind: type[np.floating]) -> str:
    """The features, (n, n_features)."""
    x = g("Flatten", x)
    for i in range(1, len(backbone.widths) + 1):
        x = g("Gemm", x, tensor(f"hidden{i}.weight", 2), tensor(f"hidden{i}.bias"), transB=1)
        x = g("Relu", _normed(g, x, tensor, i, backbone, kind))
    return x


def _normed(g: Nodes, x: str, tensor: Tensor, i: int, backbone: Conv4 | Mlp, kind: type[np.floating]) -> str:
    """Group norm; of the others nothing is left."""
    if backbone.norm != "group":
        return x
    groups = backbone.widths[i - 1] // GROUP
    one, zero = (g.constant(np.full(groups, value), kind) for value in (1, 0))
    parts = g("Reshape", x, g.integers(0, groups, -1))
    units = g("InstanceNormalization", parts, one, zero, epsilon=backbone.norm_epsilon)
    scale, shift = tensor(f"norm{i}.weight"), tensor(f"norm{i}.bias")
    if isinstance(backbone, Conv4):
        scale, shift = (g("Unsqueeze", row, g.integers(1, 2)) for row in (scale, shift))
    return g("Add", g("Mul", g("Reshape", units, g("Shape", x)), scale), shift)


def _same(sizes: Sequence[int], stride: int) -> list[int]:
    """TensorFlow's "same" padding of a 3x3 convolution: top, left, bottom, right."""
    missing = [max((-(-size // stride) - 1) * stride + 3 - size, 0) for size in sizes]
    return [*(more // 2 for more in missing), *(more - more // 2 for more in missing)]


def _residual(g: Nodes, x: str, tensor: Tensor, backbone: Residual, kind: type[np.floating]) -> str:
    """The features, (n, n_features): the summary over positions, of one length."""

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
    if backbone.summary == "statistics":
        parts, widths = [part for x in reversed(blocks[-2:]) for part in _statistics(g, x)], backbone.widths[-2:]
    even = [_of_length_one(g, g("Cast", g("Flatten", part), to=onnx.TensorProto.FLOAT)) for part in parts]
    features = g("Concat", *even, axis=1) if len(even) > 1 else even[0]
    features = g("Mul", features, g.scalar((sum(widths) / len(widths)) ** 0.5))
    return g("Cast", features, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)))


def _statistics(g: Nodes, x: str) -> tuple[str, str]:
    """Mean and deviation over positions, (n, filters, 1, 1), in 32 bits."""
    x = g("Cast", x, to=onnx.TensorProto.FLOAT)
    mean = g("GlobalAveragePool", x)
    apart = g("Sub", x, mean)
    return mean, g("Sqrt", g("GlobalAveragePool", g("Mul", apart, apart)))


def _of_length_one(g: Nodes, x: str) -> str:
    return g("Div", x, g("Max", g("ReduceL2", x, g.integers(1), keepdims=1), g.scalar(1e-12)))
