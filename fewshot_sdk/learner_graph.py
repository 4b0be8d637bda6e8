"""The learner as an ONNX graph: an inner loop on a support set, then the queries' probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor

from fewshot_sdk import conv4_nodes as conv4
from fewshot_sdk.backbones import HEAD
from fewshot_sdk.checkpoint import Initialization
from fewshot_sdk.config import Conv4, InnerLoop, Recipe
from fewshot_sdk.conv4_tables import TAPS, Layer, layers, positions_after
from fewshot_sdk.errors import ExportError
from fewshot_sdk.onnx_nodes import ROUND, Nodes, value
from fewshot_sdk.params import Params


def learner_graph(init: Initialization) -> onnx.ModelProto:
    """The graph, without metadata.

    In: `support` uint8 (S, height, width, channels), `labels` int64 (S,), `queries` uint8 (Q, ...), `steps` int64,
    `learning_rate` float; and, if given, `batches` int64 (rows, batch), of which step t takes row t modulo rows
    (else every step takes the whole support set), and `transductive` bool: the queries are judged together,
    not each by the support set's statistics.
    Out: `probabilities` (Q, N), and the classifier's tensors by their names in PyTorch. N is max(labels) + 1.
    The biases under a norm stay as they are: their slope is zero.
    Raises ExportError for a network other than Conv4, and for learned rates or a part of the network that stays.
    """
    recipe = init.recipe
    seen, backbone = recipe.preprocessing, _conv4(recipe)
    g, tables = Nodes(), layers(backbone, seen)
    x = conv4.pixels(g, "support", seen)
    n_way = g("Unsqueeze", g("Add", g("ReduceMax", "labels", keepdims=0), g.constant(1, np.int64)), g.integers(0))
    ends = _inner_loop(g, recipe, tables, x, n_way, _start(g, init, n_way))
    weights = _weights(g, ends[0], ends[1:4], recipe)
    _, statistics = conv4.predict(g, x, tables, weights, ends[4], backbone)
    queries = conv4.pixels(g, "queries", seen)
    logits, _ = conv4.predict(g, queries, tables, weights, ends[4], backbone, statistics, "transductive")
    g.output(g("Softmax", logits, axis=1), "probabilities")
    sizes = (seen.height, seen.width, seen.channels)
    inputs = [
        value("support", np.uint8, "S", *sizes),
        value("labels", np.int64, "S"),
        value("queries", np.uint8, "Q", *sizes),
        value("steps", np.int64),
        value("learning_rate", np.float32),
        value("batches", np.int64, "rows", "batch"),
        value("transductive", np.bool_),
    ]
    outputs = [
        value("probabilities", np.float32, "Q", "N"),
        *_classifier(g, init, weights, ends[4], statistics, tables),
    ]
    return g.model(inputs, outputs, {"batches": np.empty((0, 0), np.int64), "transductive": np.array(False)})


def _conv4(recipe: Recipe) -> Conv4:
    """The backbone. Raises ExportError if it is another."""
    if not isinstance(recipe.backbone, Conv4):
        raise ExportError(
            f"a {recipe.backbone.kind} network cannot be exported as a learner: the backward pass is written for "
            f"conv4 alone; adapt it with PyTorch, and export the classifier"
        )
    if recipe.head == "prototype":
        raise ExportError(
            "an initialization by protonet cannot be exported as a learner: its class means take no steps; adapt it "
            "with PyTorch, and export the classifier"
        )
    if recipe.meta.algorithm == "meta-sgd" or recipe.adaptation.trainable != "all":
        raise ExportError(
            f"an initialization by {recipe.meta.algorithm} cannot be exported as a learner: there, all weights move "
            "at one rate; adapt it with PyTorch, and export the classifier"
        )
    return recipe.backbone


def _inner_loop(g: Nodes, recipe: Recipe, tables: list[Layer], x: str, n_way: str, start: Sequence[str]) -> list[str]:
    """What the states become, in the order of `_start`."""
    backbone, columns = _conv4(recipe), TAPS * recipe.preprocessing.channels
    patches = conv4.gather_patches(g, x, tables[0])
    targets = g("OneHot", "labels", n_way, g.constant([0, 1]), axis=-1)
    schedule, n_rows, size = _schedule(g)
    b = Nodes(g)
    states = [b.input() for _ in start]
    w, head = _weights(b, states[0], states[1:4], recipe), states[4]
    batch = b("Gather", schedule, b("Mod", ROUND, n_rows), axis=0)
    first = conv4.first(b, b("Gather", patches, batch, axis=0), columns)
    traces = [conv4.forward_first(b, first, tables[0], w[0], backbone)]
    for layer, weights in zip(tables[1:], w[1:], strict=True):
        traces.append(conv4.forward(b, traces[-1].output, layer, weights, backbone))
    positions = positions_after(tables)
    features = conv4.features(b, traces[-1].output, positions, backbone.filters)
    # the slope of the mean cross-entropy by the logits
    wrong = b("Sub", b("Softmax", b("MatMul", features, head), axis=1), b("Gather", targets, batch, axis=0))
    wrong = b("Div", wrong, size)
    by_head = b("Gemm", features, wrong, transA=1)
    rows = b("Slice", head, b.integers(0), b.integers(positions * backbone.filters), b.integers(0))
    slope = b("Reshape", b("Gemm", wrong, rows, transB=1), b.integers(-1, positions, backbone.filters))
    by_layer: list[tuple[str, str, str]] = []
    for trace, layer, weights in zip(traces[:0:-1], tables[:0:-1], w[:0:-1], strict=True):
        slope, *others = conv4.backward(b, slope, trace, layer, weights, backbone.filters)
        by_layer.insert(0, (others[0], others[1], others[2]))
    by_layer.insert(0, conv4.backward_first(b, slope, traces[0], tables[0], w[0], backbone.filters, columns))
    kernels, gammas, betas = zip(*by_layer, strict=True)
    slopes = [b("Concat", kernels[0], *gammas, *betas, axis=0), *kernels[1:], by_head]
    return g.loop("steps", b, start, _update(b, states, slopes, recipe.adaptation))


def _schedule(g: Nodes) -> tuple[str, str, str]:
    """`batches`, or where it is empty one row of the whole support set; its number of rows; a row's length as float."""
    n = g("Shape", "labels")
    given = g("Shape", "batches", start=0, end=1)
    empty = g("Equal", given, g.integers(0))
    everything = g("Range", g.constant(0, np.int64), g("Squeeze", n), g.constant(1, np.int64))
    n_rows = g("Max", given, g.integers(1))
    size = g("Where", empty, n, g("Shape", "batches", start=1, end=2))
    line = g("Concat", g("Reshape", "batches", g.integers(-1)), everything, axis=0)
    line = g("Slice", line, g.integers(0), g("Mul", n_rows, size), g.integers(0))
    return g("Reshape", line, g("Concat", n_rows, size, axis=0)), g("Squeeze", n_rows), g("Cast", size, to=1)


def _update(b: Nodes, states: Sequence[str], slopes: Sequence[str], inner: InnerLoop) -> list[str]:
    """`inner_loop.update`. Adam's moments are kept divided by 1 - beta2, which saves a product of each number;

    its bias correction c = 1 - beta2^t is carried along, c <- beta2 c + (1 - beta2), which loses no digits.
    """
    if inner.optimizer == "sgd":
        return [b("Sub", p, b("Mul", d, "learning_rate")) for p, d in zip(states, slopes, strict=True)]
    n, keep = len(slopes), b.scalar(inner.beta2)
    correction = b("Add", b("Mul", states[-1], keep), b.scalar(1 - inner.beta2))
    root = b("Sqrt", b("Div", correction, b.scalar(1 - inner.beta2)))
    rate, epsilon = b("Mul", "learning_rate", root), b("Mul", b.scalar(inner.epsilon), root)
    params, moments = [], []
    for p, v, d in zip(states[:n], states[n : 2 * n], slopes, strict=True):
        moments.append(b("Add", b("Mul", v, keep), b("Mul", d, d)))
        step = b("Div", d, b("Add", b("Sqrt", moments[-1]), epsilon))
        params.append(b("Sub", p, b("Mul", step, rate)))
    return [*params, *moments, correction]


def _start(g: Nodes, init: Initialization, n_way: str) -> list[str]:
    """The states before the first step: weights as five matrices; for Adam moments and bias correction as well."""
    state, inner = init.state, init.recipe.adaptation
    opened = init.recipe.head == "zero"
    n_features = _conv4(init.recipe).filters * positions_after(layers(_conv4(init.recipe), init.recipe.preprocessing))
    wide = g("Concat", g.integers(n_features + 1), n_way, axis=0)
    body = _matrices(state.params, init.recipe)
    found = [g.constant(matrix) for matrix in body]
    found.append(g("Expand", g.scalar(0), wide) if opened else g.constant(_head(state.params, init.recipe)))
    if inner.optimizer == "sgd":
        return found
    scale = 1 / (1 - inner.beta2)
    found += [g.constant(matrix * scale) for matrix in _matrices(state.second_moments, init.recipe)]
    row = g.constant(_head(state.second_moments, init.recipe) * scale)
    return [*found, g("Expand", row, wide) if opened else row, g.scalar(1 - inner.beta2**state.updates)]


def _matrices(params: Params, recipe: Recipe) -> list[NDArray[np.float64]]:
    """The first kernel, all scales and all shifts as rows of one matrix; then each other kernel."""

    def kernel(i: int) -> NDArray[np.float64]:
        taps = _array(params[f"conv{i}.weight"]).transpose(2, 3, 1, 0)
        return taps.reshape(-1, _conv4(recipe).filters)

    norms = [_array(params[f"norm{i}.{part}"])[None] for part in ("weight", "bias") for i in range(1, 5)]
    return [np.concatenate([kernel(1), *norms]), *map(kernel, range(2, 5))]


def _head(params: Params, recipe: Recipe) -> NDArray[np.float64]:
    """Weights by position and filter, then the bias: (features + 1, n_way)."""
    weight, bias = (_array(params[name]) for name in HEAD)
    by_position = weight.reshape(len(bias), _conv4(recipe).filters, -1).transpose(2, 1, 0)
    return np.concatenate([by_position.reshape(-1, len(bias)), bias[None]])


def _weights(g: Nodes, narrow: str, kernels: Sequence[str], recipe: Recipe) -> list[conv4.Weights]:
    rows = g.integers(TAPS * recipe.preprocessing.channels, *[1] * 8)
    first, *norms = g.several("Split", 9, narrow, rows, axis=0)
    return [conv4.Weights(kernel, norms[i], norms[4 + i]) for i, kernel in enumerate([first, *kernels])]


def _classifier(
    g: Nodes, init: Initialization, weights: list[conv4.Weights], head: str, statistics: list[tuple[str, str]],
    tables: list[Layer],
) -> list[onnx.ValueInfoProto]:  # fmt: skip
    """Outputs the adapted weights and statistics as PyTorch keeps them, and declares them."""
    filters, channels = _conv4(init.recipe).filters, init.recipe.preprocessing.channels
    positions = positions_after(tables)
    declared: list[onnx.ValueInfoProto] = []

    def output(name: str, result: str, *sizes: int | str) -> None:
        g.output(result, name)
        declared.append(value(name, np.float32, *sizes))

    for i, (w, (mean, variance)) in enumerate(zip(weights, statistics, strict=True), 1):
        depth = channels if i == 1 else filters
        kernel = g("Transpose", g("Reshape", w.kernel, g.integers(3, 3, depth, filters)), perm=[3, 2, 0, 1])
        output(f"conv{i}.weight", kernel, filters, depth, 3, 3)
        bias = g.constant(_array(init.state.params[f"conv{i}.bias"]))
        output(f"conv{i}.bias", bias, filters)
        flat = {"weight": w.gamma, "bias": w.beta, "mean": g("Add", mean, bias), "var": variance}
        for part, row in flat.items():
            output(f"norm{i}.{part}", g("Reshape", row, g.integers(filters)), filters)
    rows, bias = g.several("Split", 2, head, g.integers(positions * filters, 1), axis=0)
    by_class = g("Transpose", g("Reshape", rows, g.integers(positions, filters, -1)), perm=[2, 1, 0])
    output(HEAD[0], g("Reshape", by_class, g.integers(-1, positions * filters)), "N", positions * filters)
    output(HEAD[1], g("Reshape", bias, g.integers(-1)), "N")
    return declared


def _array(tensor: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.double().numpy()
    return array
