"""The ONNX graph of an adapted classifier: the network, and the preprocessing in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import onnx

from fewshot_sdk.config.backbone import HEAD
from fewshot_sdk.config.backbones import BACKBONES, Backbone
from fewshot_sdk.config.onnx_file import FEATURES, HEAT_MAP, INPUT, KNOWN, LABEL, LEAST_SCORE, OUTPUT, PIXELS, THRESHOLD
from fewshot_sdk.config.recipe import Preprocessing, Rows
from fewshot_sdk.errors import ExportError
from fewshot_sdk.graphs.heat_maps import Shape, heat_map
from fewshot_sdk.graphs.nodes import Nodes, value
from fewshot_sdk.graphs.preprocessing import network_pixels
from fewshot_sdk.graphs.versions import OPSET
from fewshot_sdk.graphs.weights import Tensor, Tensors, folded
from fewshot_sdk.images.grids import common_sides
from fewshot_sdk.nets.score import LEAST, Cosine
from fewshot_sdk.tables import referred

_THRESHOLD = value(THRESHOLD, np.float32)


class Features(Protocol):
    """The function that `BACKBONES` names as `graph`."""

    def __call__(
        self,
        g: Nodes,
        x: str,
        tensor: Tensor,
        backbone: Backbone,
        preprocessing: Preprocessing,
        kind: type[np.floating],
    ) -> str:
        """The features of pixels `x`, as images or rows; `tensor` gives the weights, `kind` is the dtype."""


def network_graph(
    tensors: Tensors | None, backbone: Backbone, preprocessing: Preprocessing, *,
    temperature: float = 1.0, threshold: float = 0.0, least_score: float | None = None, cosine: Cosine | None = None,
    from_cosine: bool = False, half: bool = False, opset: int = OPSET,
    heat_map_of: Sequence[Shape] = (), features_out: bool = False,
) -> onnx.ModelProto:  # fmt: skip
    """The graph from `pixels`, float32 (batch, channels, height, width), to label, probabilities and known.

    For `Rows` it is from `features`, float32 (batch, width).

    tensors: weights and frozen statistics by their names in PyTorch; with None the tensors that `folded` would leave,
    and otherwise a head that is not among them, are inputs of the graph, by these names, so that one graph serves all
    classifiers with any number of classes; then `least_score` is an input, too (a logit is divided by the temperature,
    like the head), and `from_cosine` adds the parts of a `Cosine`.
    threshold, least_score: see `ClassifierConfig`; the threshold is the default of the optional input `threshold`,
    float32 (). cosine: the score, at this temperature; None is the highest logit.
    half: the network stores and computes 16-bit numbers.
    heat_map_of: the shapes of the layers that the features summarize, for one more output, `heat_map`, float32
    (batch, h, w), see `graphs.heat_maps`; only for networks whose features are sums over positions.
    features_out: one more output, `features`, float32 (batch, n_features), the head's input.
    """
    if not (reference := BACKBONES[backbone.kind].graph):
        raise ExportError(f"a {backbone.kind} network has no ONNX graph of its own; export its classifiers instead")
    features, g = cast("Features", referred(reference)), Nodes()
    kind = np.float16 if half else np.float32
    held = None if tensors is None else folded(tensors, backbone)
    given: list[onnx.ValueInfoProto] = []

    def tensor(name: str, dimensions: int = 1) -> str:
        if held is not None and name in held:
            return g.constant(held[name], kind)
        given.append(value(name, np.float32, *(f"{name} {side}" for side in range(dimensions))))
        return name

    pixels = value(PIXELS, np.float32, "batch", preprocessing.channels, preprocessing.height, preprocessing.width)
    if isinstance(preprocessing, Rows):
        pixels = value(FEATURES, np.float32, "batch", preprocessing.width)
    x = g("Cast", pixels.name, to=onnx.TensorProto.FLOAT16) if half else pixels.name
    x = features(g, x, tensor, backbone, preprocessing, kind)
    head = (tensor("head.weight", 2), tensor("head.bias"))
    limit = None if least_score is None else _limit(g, least_score, temperature, cosine)
    if is_open := held is None or HEAD[0] not in held:
        named = ("centre", "shift", "scale") if from_cosine else ()
        given += [value(name, np.float32, f"{name} {side}") for side, name in zip("nkk", named, strict=False)]
        given.append(value(LEAST_SCORE, np.float32))
        limit = _Limit(least=LEAST_SCORE, cosine=named)
    outputs = _outputs("n_way" if tensors is None or is_open else len(tensors["head.bias"]))
    x = g("Flatten", x)
    label = _add_outputs(g, x, head, temperature, limit, half)
    if features_out:
        g.output(x, FEATURES)
        outputs.append(value(FEATURES, np.float32, "batch", "n_features"))
    if heat_map_of:
        mean = None if tensors is None or is_open else tensors["head.weight"].mean(0)
        g.output(heat_map(g, g.summarized, heat_map_of, label, head[0], mean, backbone, temperature), HEAT_MAP)
        outputs.append(value(HEAT_MAP, np.float32, "batch", *common_sides([(h, w) for _, h, w in heat_map_of])))
    return g.model([pixels, *given, _THRESHOLD], outputs, {THRESHOLD: np.array(threshold, np.float32)}, opset=opset)


def with_head(
    body: onnx.ModelProto, tensors: Tensors, *,
    temperature: float = 1.0, threshold: float = 0.0, least_score: float | None = None, cosine: Cosine | None = None,
    opset: int = OPSET,
) -> onnx.ModelProto:  # fmt: skip
    """The graph of a classifier with our head on a body that another library wrote, from `pixels` to `features`."""
    g = Nodes()
    rows, bias = tensors["head.weight"], tensors["head.bias"]
    limit = None if least_score is None else _limit(g, least_score, temperature, cosine)
    _add_outputs(g, FEATURES, (g.constant(rows), g.constant(bias)), temperature, limit)
    features = value(FEATURES, np.float32, "batch", rows.shape[1])
    head = g.model([features, _THRESHOLD], _outputs(len(bias)), opset=opset)
    head.ir_version = body.ir_version
    head = onnx.compose.add_prefix(head, "head_", rename_inputs=False, rename_outputs=False)
    whole = onnx.compose.merge_models(body, head, [(FEATURES, FEATURES)])
    # not before, or the input would get the prefix, too
    whole.graph.initializer.append(onnx.numpy_helper.from_array(np.array(threshold, np.float32), THRESHOLD))
    whole.producer_name, whole.producer_version, whole.graph.name = "fewshot-sdk", "", "fewshot"
    onnx.checker.check_model(whole, full_check=True)
    return whole


@dataclass(frozen=True, kw_only=True)
class _Limit:
    """The names of the least score, and of the centre, shift and scale of a `Cosine`; none for the highest logit."""

    least: str
    cosine: tuple[str, ...] = ()


def _limit(g: Nodes, least: float, temperature: float, cosine: Cosine | None) -> _Limit:
    if cosine is None:
        return _Limit(least=g.scalar(least / temperature))
    parts = (cosine.centre, cosine.shift, cosine.scale)
    return _Limit(least=g.scalar(least), cosine=tuple(g.constant(part) for part in parts))


def _add_outputs(
    g: Nodes,
    x: str,
    head: tuple[str, str],
    temperature: float,
    limit: _Limit | None,
    half: bool = False,
) -> str:
    """Add the nodes from features, (n, n_features), to the outputs of the graph; the name of the labels' node."""
    logits = g("Gemm", x, *head, transB=1, alpha=1 / temperature, beta=1 / temperature)
    if half:
        logits = g("Cast", logits, to=onnx.TensorProto.FLOAT)
    rows = g("Softmax", logits, axis=1)
    best = g("ReduceMax", rows, g.integers(1), keepdims=0)
    label = g("ArgMax", rows, axis=1, keepdims=0)
    g.output(label, LABEL)
    g.output(rows, OUTPUT)
    known = g("GreaterOrEqual", best, THRESHOLD)
    if limit is not None:
        score = logits
        if limit.cosine:
            centre, shift, scale = limit.cosine
            score = g("Mul", g("Sub", logits, shift), scale)
        score = g("ReduceMax", score, g.integers(1), keepdims=0)
        if limit.cosine:
            away = g("Sub", g("Cast", x, to=onnx.TensorProto.FLOAT) if half else x, centre)
            distance = g("ReduceL2", away, g.integers(1), keepdims=0)
            score = g("Div", score, g("Max", distance, g.scalar(LEAST)))
        known = g("And", known, g("GreaterOrEqual", score, limit.least))
    g.output(known, KNOWN)
    return label


def _outputs(n_way: int | str) -> list[onnx.ValueInfoProto]:
    return [
        value(LABEL, np.int64, "batch"), value(OUTPUT, np.float32, "batch", n_way), value(KNOWN, np.bool_, "batch"),
    ]  # fmt: skip


def with_preprocessing(network: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """The network with preprocessing in front; takes `images`, uint8 (batch, any height, any width, 3)."""
    g = Nodes()
    x = g("Div", network_pixels(g, INPUT, preprocessing), g.scalar(255))
    if any(preprocessing.mean):
        x = g("Sub", x, g.constant(np.reshape(preprocessing.mean, (1, -1, 1, 1))))
    if set(preprocessing.std) != {1}:
        x = g("Div", x, g.constant(np.reshape(preprocessing.std, (1, -1, 1, 1))))
    g.output(x, PIXELS)
    opset = next(entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx"))
    images = value(INPUT, np.uint8, "batch", "height", "width", 3)
    pixels = value(PIXELS, np.float32, "batch", preprocessing.channels, preprocessing.height, preprocessing.width)
    first = g.model([images], [pixels], opset=opset)
    first.ir_version = network.ir_version
    whole = onnx.compose.merge_models(
        onnx.compose.add_prefix(first, "seen_", rename_inputs=False, rename_outputs=False), network, [(PIXELS, PIXELS)]
    )
    whole.producer_name, whole.graph.name = network.producer_name, network.graph.name
    onnx.checker.check_model(whole, full_check=True)
    return whole
