"""An adapted classifier as an ONNX graph, from its tensors: the network, and the preprocessing before it."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
import onnx

from fewshot_sdk.config.backbones import BACKBONES, Backbone
from fewshot_sdk.config.onnx_file import FEATURES, INPUT, KNOWN, LABEL, OUTPUT, PIXELS
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ExportError
from fewshot_sdk.graphs.nodes import OPSET, Nodes, value
from fewshot_sdk.graphs.preprocessing import network_pixels
from fewshot_sdk.graphs.weights import Tensor, Tensors, folded
from fewshot_sdk.tables import referred


class Features(Protocol):
    """What `BACKBONES` refers to by `graph`."""

    def __call__(
        self, g: Nodes, x: str, tensor: Tensor, backbone: Backbone, seen: Preprocessing, kind: type[np.floating]
    ) -> str:
        """The features of pixels `x`, as images or rows; `tensor` gives weights, numbers are of that kind."""


def network_graph(
    tensors: Tensors | None, backbone: Backbone, seen: Preprocessing, *,
    temperature: float = 1.0, threshold: float = 0.0, half: bool = False, opset: int = OPSET,
) -> onnx.ModelProto:  # fmt: skip
    """`pixels`, float32 (batch, channels, height, width) as the network takes them, to label, probabilities and known.

    tensors: weights and frozen statistics by their names in PyTorch; None makes inputs of what `folded` leaves of
    them, by these names, so that one graph serves all classifiers of any number of classes.
    half: the network keeps and computes 16 bits.
    """
    if not (reference := BACKBONES[backbone.kind].graph):
        raise ExportError(f"a {backbone.kind} network is not written by these nodes; only its classifiers are exported")
    features, g = cast("Features", referred(reference)), Nodes()
    kind = np.float16 if half else np.float32
    held = None if tensors is None else folded(tensors, backbone)
    given: list[onnx.ValueInfoProto] = []

    def tensor(name: str, dimensions: int = 1) -> str:
        if held is not None:
            return g.constant(held[name], kind)
        given.append(value(name, np.float32, *(f"{name} {side}" for side in range(dimensions))))
        return name

    x = g("Cast", PIXELS, to=onnx.TensorProto.FLOAT16) if half else PIXELS
    x = features(g, x, tensor, backbone, seen, kind)
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
