"""Conv4 without batch norm, and fully connected layers with any norm or none, in a learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.backbone import HEAD
from fewshot_sdk.config.backbones import GROUP, Conv4, Mlp
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.learner import conv4_nodes as conv4
from fewshot_sdk.graphs.learner.conv4 import Conv4Form, array
from fewshot_sdk.graphs.learner.conv4_nodes import DENSE, TAPS, Layer, layers, positions_after
from fewshot_sdk.graphs.nodes import Nodes
from fewshot_sdk.graphs.weights import Params

Statistics = tuple[str, str]  # mean and variance


@dataclass(frozen=True, kw_only=True)
class Normed:
    """A norm's output as rows; for the backward pass its normalized units, inverse deviations and statistics."""

    rows: str
    units: str = ""
    inverse: str = ""
    statistics: Statistics = ("", "")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What the backward pass needs of a layer's forward pass."""

    patches: str
    normed: Normed
    chosen: str
    output: str


def conv4_form(backbone: Conv4, preprocessing: Preprocessing) -> Conv4Form | LayeredForm:
    """Conv4: with batch norm as a few large products, otherwise layer by layer."""
    if backbone.judges_alone:
        return LayeredForm(backbone, preprocessing, layers(backbone, preprocessing))
    return Conv4Form(backbone, preprocessing)


def mlp_form(backbone: Mlp, preprocessing: Preprocessing) -> LayeredForm:
    """Fully connected layers."""
    return LayeredForm(backbone, preprocessing, [DENSE for _ in backbone.widths])


class LayeredForm:
    """A stack of layers, each a product, a norm, a pool if any, and ReLU; activations are (n, positions, channels).

    The states of the body are each layer's kernel, its bias unless batch norm follows, and the norm's scale and shift.
    """

    def __init__(self, backbone: Conv4 | Mlp, preprocessing: Preprocessing, tables: list[Layer]) -> None:
        self._backbone, self._preprocessing, self._tables = backbone, preprocessing, tables
        self._dense = tables[0] is DENSE
        self._positions = positions_after(self._tables)
        self._parts = ["weight"] if backbone.norm == "batch" else ["weight", "bias"]
        self._norm = ["weight", "bias"] if backbone.norm != "none" else []
        self.n_features = backbone.widths[-1] * self._positions
        self._traces: list[Trace] = []
        self._weights: list[list[str]] = []

    def images(self, g: Nodes, name: str) -> str:
        """uint8 images as input of the first layer."""
        x = conv4.pixels(g, name, self._preprocessing)
        if not self._dense:
            return x
        return g("Reshape", g("Transpose", x, perm=[0, 2, 1]), g.integers(0, 1, -1))  # by channel, as in PyTorch

    def prepared(self, g: Nodes, x: str) -> str:
        """The support set's patches, gathered once before the first step."""
        return self._patches(g, x, 0)

    def states(self, params: Params) -> list[NDArray[np.float64]]:
        """Kernels as (inputs, width), everything else as (1, width)."""
        found: list[NDArray[np.float64]] = []
        for i in range(1, len(self._tables) + 1):
            kernel, *others = (array(params[name]) for name in self._names(i))
            turned = kernel.T if self._dense else kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))
            found += [np.ascontiguousarray(turned), *(row[None] for row in others)]
        return found

    def head(self, params: Params) -> NDArray[np.float64]:
        """Weights by position and channel, then the bias: (features + 1, n_way)."""
        weight, bias = (array(params[name]) for name in HEAD)
        by_position = weight.reshape(len(bias), -1, self._positions).transpose(2, 1, 0)
        return np.concatenate([by_position.reshape(-1, len(bias)), bias[None]])

    def forward(self, b: Nodes, patches: str, states: Sequence[str]) -> str:
        """The features of a mini-batch's patches, with a column of ones."""
        return self._forward(b, patches, states, [], "")

    def backward(self, b: Nodes, gradient: str) -> list[str]:
        """Gradients of the states from that of the features, (n, features): the backward pass of `forward`."""
        gradient = b("Reshape", gradient, b.integers(-1, self._positions, self._backbone.widths[-1]))
        found: list[str] = []
        for i in range(len(self._tables) - 1, -1, -1):
            layer, trace, (kernel, *_) = self._tables[i], self._traces[i], self._weights[i]
            width = self._backbone.widths[i]
            d = conv4.unshrink(b, gradient, trace.output, trace.chosen, layer, width)
            of_norm: list[str] = []
            if self._norm:
                d, *of_norm = self._back_through_norm(b, d, trace.normed, self._weights[i][-2], i)
            of_bias = [b("ReduceSum", d, b.integers(0), keepdims=1)] if "bias" in self._parts else []
            found = [b("Gemm", trace.patches, d, transA=1), *of_bias, *of_norm, *found]
            if i and self._dense:
                gradient = b("Unsqueeze", b("Gemm", d, kernel, transB=1), b.integers(1))
            elif i:
                gradient = conv4.by_patches(b, d, layer, kernel, width)
        return found

    def classify(
        self, g: Nodes, x: str, queries: str, ends: Sequence[str], head: str, params: Params  # noqa: ARG002
    ) -> tuple[str, dict[str, tuple[str, tuple[int, ...]]]]:  # fmt: skip
        """The queries' logits, and the classifier's tensors: name in PyTorch -> result in the graph and shape."""
        statistics: list[Statistics] = []
        if not self._backbone.judges_alone:
            self.forward(g, self._patches(g, x, 0), ends)
            statistics = [trace.normed.statistics for trace in self._traces]
        features = self._forward(g, self._patches(g, queries, 0), ends, statistics, "transductive")
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        depth: int = self._preprocessing.channels
        for i, (width, weights) in enumerate(zip(self._backbone.widths, self._weights, strict=True), 1):
            kernel, *others = weights
            name, *names = self._names(i)
            if self._dense:
                found[name] = g("Transpose", kernel, perm=[1, 0]), (width, self._inputs(i - 1))
            else:
                taps = g("Reshape", kernel, g.integers(3, 3, depth, width))
                found[name], depth = (g("Transpose", taps, perm=[3, 2, 0, 1]), (width, depth, 3, 3)), width
            rows = dict(zip(names, others, strict=True))
            if statistics:
                rows |= dict(zip((f"norm{i}.mean", f"norm{i}.var"), statistics[i - 1], strict=True))
            found |= {name: (g("Reshape", row, g.integers(width)), (width,)) for name, row in rows.items()}
        return g("MatMul", features, head), found

    def by_class(self, g: Nodes, rows: str) -> str:
        """The head's weights, (features, n_way), in PyTorch's layout, (n_way, features)."""
        by_position = g("Reshape", rows, g.integers(self._positions, self._backbone.widths[-1], -1))
        return g("Reshape", g("Transpose", by_position, perm=[2, 1, 0]), g.integers(-1, self.n_features))

    def _names(self, i: int) -> list[str]:
        layer = f"hidden{i}" if self._dense else f"conv{i}"
        return [*(f"{layer}.{part}" for part in self._parts), *(f"norm{i}.{part}" for part in self._norm)]

    def _patches(self, g: Nodes, x: str, i: int) -> str:
        return x if self._dense else conv4.gather_patches(g, x, self._tables[i])

    def _inputs(self, i: int) -> int:
        """Number of columns of a layer's patches."""
        pixels, widths = self._preprocessing, self._backbone.widths
        first = pixels.height * pixels.width * pixels.channels if self._dense else TAPS * pixels.channels
        return (widths[i - 1] * (1 if self._dense else TAPS)) if i else first

    def _forward(self, g: Nodes, patches: str, states: Sequence[str], given: list[Statistics], own: str) -> str:
        """The features. given: statistics to normalize with, unless the boolean named `own` is true."""
        each = len(self._parts) + len(self._norm)
        self._weights = [list(states[i : i + each]) for i in range(0, len(states), each)]
        self._traces = []
        for i, (layer, weights) in enumerate(zip(self._tables, self._weights, strict=True)):
            rows = conv4.as_rows(g, patches, self._inputs(i))
            y = g("Gemm", rows, *weights[: len(self._parts)])
            normed = Normed(rows=y)
            if self._norm:
                normed = self._normed(g, y, weights[-2:], i, given[i] if given else None, own)
            output, chosen = conv4.shrink(g, normed.rows, layer, self._backbone.widths[i])
            self._traces.append(Trace(patches=rows, normed=normed, chosen=chosen, output=output))
            patches = output if i + 1 == len(self._tables) else self._patches(g, output, i + 1)
        return conv4.features(g, patches, self._positions, self._backbone.widths[-1])

    def _normed(
        self, g: Nodes, y: str, weights: Sequence[str], i: int, given: Statistics | None, own: str
    ) -> Normed:  # fmt: skip
        """The norm's output: units with mean 0 and deviation 1 over the axes of `_grouped`, then scaled and shifted."""
        gamma, beta = weights
        x, over = self._grouped(g, y, i)
        mean = g("ReduceMean", x, over, keepdims=1)
        centred = g("Sub", x, mean)
        variance = g("ReduceMean", g("Mul", centred, centred), over, keepdims=1)
        if given is not None:
            mean, variance = (g("Where", own, mine, its) for mine, its in zip((mean, variance), given, strict=True))
            centred = g("Sub", x, mean)
        inverse = conv4.inverse_deviation(g, variance, self._backbone.norm_epsilon)
        units = g("Mul", centred, inverse)
        rows = g("Add", g("Mul", self._ungrouped(g, units, i), gamma), beta)
        return Normed(rows=rows, units=units, inverse=inverse, statistics=(mean, variance))

    def _back_through_norm(self, b: Nodes, d: str, normed: Normed, gamma: str, i: int) -> tuple[str, str, str]:
        """Gradients of the norm's input, scale and shift from that of its output, as rows."""
        by_beta = b("ReduceSum", d, b.integers(0), keepdims=1)
        by_gamma = b("ReduceSum", b("Mul", d, self._ungrouped(b, normed.units, i)), b.integers(0), keepdims=1)
        x, over = self._grouped(b, b("Mul", d, gamma), i)
        level = b("ReduceMean", x, over, keepdims=1)
        along = b("ReduceMean", b("Mul", x, normed.units), over, keepdims=1)
        rest = b("Sub", b("Sub", x, level), b("Mul", normed.units, along))
        return self._ungrouped(b, b("Mul", rest, normed.inverse), i), by_gamma, by_beta

    def _grouped(self, g: Nodes, rows: str, i: int) -> tuple[str, str]:
        """Rows reshaped so that what is normalized together lies along certain axes; and these axes."""
        if self._backbone.norm == "batch":
            return rows, g.integers(0)
        groups = self._backbone.widths[i] // GROUP
        return g("Reshape", rows, g.integers(-1, len(self._tables[i].patches), groups, GROUP)), g.integers(1, 3)

    def _ungrouped(self, g: Nodes, x: str, i: int) -> str:
        """The inverse of `_grouped`: back to rows."""
        return x if self._backbone.norm == "batch" else g("Reshape", x, g.integers(-1, self._backbone.widths[i]))
