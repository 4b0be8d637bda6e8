"""The ONNX graph of a learner: an inner loop on a support set, then the queries' probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.config.backbone import HEAD
from fewshot_sdk.config.backbones import BACKBONES, Backbone, spread
from fewshot_sdk.config.recipe import InnerLoop, Preprocessing, Recipe
from fewshot_sdk.errors import ExportError
from fewshot_sdk.graphs.learner.frozen import FrozenForm
from fewshot_sdk.graphs.nodes import ROUND, Nodes, value
from fewshot_sdk.graphs.shapes import shapes_of
from fewshot_sdk.graphs.weights import Params
from fewshot_sdk.tables import referred


class State(Protocol):
    """What an inner loop starts from, such as PyTorch's `LearnerState`.

    second_moments: Adam's, of the weights that steps change; updates: the number of updates in them.
    """

    @property
    def params(self) -> Params:
        """The weights, without those of a head that opens anew."""

    @property
    def second_moments(self) -> Params:
        """Adam's running mean of squared gradients; empty for SGD."""

    @property
    def updates(self) -> int:
        """Adam's t."""


class Form(Protocol):
    """A network in a learner: the states of its loop, the forward and backward pass, and the classifier's tensors."""

    n_features: int

    def images(self, g: Nodes, name: str) -> str:
        """uint8 images as input of the first layer."""

    def prepared(self, g: Nodes, x: str) -> str:
        """What is computed from the support set once, before the first step."""

    def states(self, params: Params) -> list[NDArray[np.float64]]:
        """The body's weights as the matrices that are the states of the loop."""

    def head(self, params: Params) -> NDArray[np.float64]:
        """The head's weights, then its bias: (features + 1, n_way)."""

    def forward(self, b: Nodes, x: str, states: Sequence[str]) -> str:
        """The features of a mini-batch, with a column of ones."""

    def backward(self, b: Nodes, gradient: str) -> list[str]:
        """Gradients of the states from that of the features, (n, features): the backward pass of `forward`."""

    def classify(
        self, g: Nodes, x: str, queries: str, ends: Sequence[str], head: str, params: Params
    ) -> tuple[str, dict[str, tuple[str, tuple[int, ...]]]]:
        """The queries' logits, and the classifier's tensors: name in PyTorch -> result in the graph and shape."""

    def by_class(self, g: Nodes, rows: str) -> str:
        """The head's weights, (features, n_way), in PyTorch's layout, (n_way, features)."""


NewForm = Callable[[Backbone, Preprocessing], Form]  # the function that `BACKBONES` names as `learner`


def learner_graph(recipe: Recipe, state: State) -> onnx.ModelProto:
    """The learner of an initialization with this recipe and state, without metadata.

    Inputs: `support` uint8 (S, height, width, channels), `labels` int64 (S,), `queries` uint8 (Q, ...), `steps` int64,
    `learning_rate` float; optionally `batches` int64 (rows, batch): step t takes row t modulo rows (by default every
    step takes the whole support set), and `transductive` bool: batch norms use the statistics of all queries
    together, not those of the support set.
    Outputs: `probabilities` (Q, N), and the classifier's tensors by their names in PyTorch. N is max(labels) + 1.
    Raises ExportError for an unsupported network, for learned rates, and if neither all of the network is trained nor
    the head alone of one that judges each image alone.
    """
    form, preprocessing, params = _form(recipe, state), recipe.preprocessing, state.params
    g = Nodes()
    x = form.images(g, "support")
    n_way = g("Unsqueeze", g("Add", g("ReduceMax", "labels", keepdims=0), g.constant(1, np.int64)), g.integers(0))
    prepared = form.prepared(g, x)
    ends = _inner_loop(g, form, recipe.adaptation, prepared, n_way, _start(g, form, recipe, state, prepared, n_way))
    n_body = len(form.states(params))
    queries = form.images(g, "queries")
    logits, tensors = form.classify(g, x, queries, ends[:n_body], ends[n_body], params)
    g.output(g("Softmax", logits, axis=1), "probabilities")
    rows, bias = g.several("Split", 2, ends[n_body], g.integers(form.n_features, 1), axis=0)
    outputs = [value("probabilities", np.float32, "Q", "N")]
    for name, (result, shape) in tensors.items():
        g.output(result, name)
        outputs.append(value(name, np.float32, *shape))
    g.output(form.by_class(g, rows), HEAD[0])
    g.output(g("Reshape", bias, g.integers(-1)), HEAD[1])
    outputs += [value(HEAD[0], np.float32, "N", form.n_features), value(HEAD[1], np.float32, "N")]
    sizes = (preprocessing.height, preprocessing.width, preprocessing.channels)
    inputs = [
        value("support", np.uint8, "S", *sizes),
        value("labels", np.int64, "S"),
        value("queries", np.uint8, "Q", *sizes),
        value("steps", np.int64),
        value("learning_rate", np.float32),
        value("batches", np.int64, "rows", "batch"),
        value("transductive", np.bool_),
    ]
    return g.model(inputs, outputs, {"batches": np.empty((0, 0), np.int64), "transductive": np.array(False)})


def _form(recipe: Recipe, state: State) -> Form:
    """The form of the recipe's network. Raises ExportError if it cannot be a learner."""
    advice = "adapt it with PyTorch, and export the classifier"
    row, backbone, trainable = BACKBONES[recipe.backbone.kind], recipe.backbone, recipe.adaptation.trainable
    frozen = trainable == "head" and backbone.judges_alone and row.graph
    if recipe.head == "prototype" and not (frozen and recipe.adaptation.optimizer == "sgd"):
        raise ExportError(
            f"an initialization by {recipe.meta.algorithm} cannot be exported as a learner: class means need no "
            f"inner steps, but for steps of SGD on the head alone; {advice}"
        )
    if ALGORITHMS[recipe.meta.algorithm].learns_rates or not (trainable == "all" or frozen):
        raise ExportError(
            f"an initialization by {recipe.meta.algorithm} cannot be exported as a learner, which moves all "
            f"weights at one rate, or the head alone of a network that judges each picture alone; {advice}"
        )
    if frozen:
        n_features = shapes_of(state.params, backbone, recipe.preprocessing).n_features
        return FrozenForm(backbone, recipe.preprocessing, n_features, state.params)
    if not row.learner:
        *others, last = (kind for kind, row in BACKBONES.items() if row.learner)
        raise ExportError(
            f"a network of the kind {backbone.kind} cannot be exported as a learner: the backward pass is written for "
            f"{', '.join(others)} and {last} ones; {advice}"
        )
    return cast("NewForm", referred(row.learner))(backbone, recipe.preprocessing)


def _inner_loop(g: Nodes, form: Form, inner: InnerLoop, prepared: str, n_way: str, start: Sequence[str]) -> list[str]:
    """The final states, in the order of `_start`."""
    targets = g("OneHot", "labels", n_way, g.constant([0, 1]), axis=-1)
    schedule, n_rows, size = _schedule(g)
    b = Nodes(g)
    states = [b.input() for _ in start]
    n_body = (len(start) if inner.optimizer == "sgd" else len(start) // 2) - 1
    head = states[n_body]
    batch = b("Gather", schedule, b("Mod", ROUND, n_rows), axis=0)
    features = form.forward(b, b("Gather", prepared, batch, axis=0), states[:n_body])
    # gradient of the logits: of the summed cross-entropy, divided
    wrong = b("Sub", b("Softmax", b("MatMul", features, head), axis=1), b("Gather", targets, batch, axis=0))
    wrong = b("Div", wrong, b.scalar(inner.loss_divisor) if inner.loss_divisor else size)
    by_head = b("Gemm", features, wrong, transA=1)
    gradients = [by_head]
    if n_body:
        rows = b("Slice", head, b.integers(0), b.integers(form.n_features), b.integers(0))
        gradients = [*form.backward(b, b("Gemm", wrong, rows, transB=1)), by_head]
    return g.loop("steps", b, start, _update(b, states, gradients, inner))


def _schedule(g: Nodes) -> tuple[str, str, str]:
    """`batches`, or, if empty, one row with the whole support set; the number of rows; a row's length, as float."""
    n = g("Shape", "labels")
    given = g("Shape", "batches", start=0, end=1)
    empty = g("Equal", given, g.integers(0))
    everything = g("Range", g.constant(0, np.int64), g("Squeeze", n), g.constant(1, np.int64))
    n_rows = g("Max", given, g.integers(1))
    size = g("Where", empty, n, g("Shape", "batches", start=1, end=2))
    line = g("Concat", g("Reshape", "batches", g.integers(-1)), everything, axis=0)
    line = g("Slice", line, g.integers(0), g("Mul", n_rows, size), g.integers(0))
    return g("Reshape", line, g("Concat", n_rows, size, axis=0)), g("Squeeze", n_rows), g("Cast", size, to=1)


def _update(b: Nodes, states: Sequence[str], gradients: Sequence[str], inner: InnerLoop) -> list[str]:
    """The states after `inner_loop.update`.

    Adam's moments are stored divided by 1 - beta2, which saves one product per number; its bias correction
    c = 1 - beta2^t is a state, too: c <- beta2 c + (1 - beta2) loses no digits.
    """
    if inner.optimizer == "sgd":
        return [b("Sub", p, b("Mul", d, "learning_rate")) for p, d in zip(states, gradients, strict=True)]
    n, keep = len(gradients), b.scalar(inner.beta2)
    correction = b("Add", b("Mul", states[-1], keep), b.scalar(1 - inner.beta2))
    root = b("Sqrt", b("Div", correction, b.scalar(1 - inner.beta2)))
    rate, epsilon = b("Mul", "learning_rate", root), b("Mul", b.scalar(inner.epsilon), root)
    params, moments = [], []
    for p, v, d in zip(states[:n], states[n : 2 * n], gradients, strict=True):
        moments.append(b("Add", b("Mul", v, keep), b("Mul", d, d)))
        step = b("Div", d, b("Add", b("Sqrt", moments[-1]), epsilon))
        params.append(b("Sub", p, b("Mul", step, rate)))
    return [*params, *moments, correction]


def _start(g: Nodes, form: Form, recipe: Recipe, state: State, prepared: str, n_way: str) -> list[str]:
    """The states before the first step: the body's, then the head's; for Adam also moments and bias correction."""
    inner, opened = recipe.adaptation, recipe.head == "zero"
    if recipe.head == "prototype":
        return [_prototypes(g, prepared, n_way, form.n_features, recipe.backbone.kind)]
    wide = g("Concat", g.integers(form.n_features + 1), n_way, axis=0)
    found = [g.constant(matrix) for matrix in form.states(state.params)]
    found.append(g("Expand", g.scalar(0), wide) if opened else g.constant(form.head(state.params)))
    if inner.optimizer == "sgd":
        return found
    scale = 1 / (1 - inner.beta2)
    found += [g.constant(matrix * scale) for matrix in form.states(state.second_moments)]
    row = g.constant(form.head(state.second_moments) * scale)
    return [*found, g("Expand", row, wide) if opened else row, g.scalar(1 - inner.beta2**state.updates)]


def _prototypes(g: Nodes, prepared: str, n_way: str, n_features: int, kind: str) -> str:
    """The head of class means as a state, (features + 1, n_way): see `engine.heads.prototype_head`."""
    targets = g("Transpose", g("OneHot", "labels", n_way, g.constant([0, 1]), axis=-1), perm=[1, 0])
    sums, counts = g.several("Split", 2, g("MatMul", targets, prepared), g.integers(n_features, 1), axis=1)
    means, scale = g("Div", sums, counts), spread(n_features, kind)
    centre = g("ReduceMean", means, g.integers(0), keepdims=1)
    rows = g("Mul", g("Sub", means, centre), g.scalar(2 / scale))
    products = g("Mul", rows, g("Add", means, centre))  # |c|^2 - |m|^2 would lose digits
    bias = g("Mul", g("ReduceSum", products, g.integers(1), keepdims=1), g.scalar(-0.5))
    return g("Transpose", g("Concat", rows, bias, axis=1), perm=[1, 0])
