"""Conv4 in a learner: the states of its loop, the forward and backward pass, and the classifier's tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewshot_sdk.config.backbone import HEAD
from fewshot_sdk.config.recipe import Conv4, Preprocessing
from fewshot_sdk.graphs.learner import conv4_nodes as conv4
from fewshot_sdk.graphs.learner.conv4_nodes import TAPS, layers, positions_after
from fewshot_sdk.graphs.nodes import Nodes
from fewshot_sdk.graphs.weights import Params


class Conv4Form:
    """Conv4 as a few large products. The states of the body are four matrices, see `states`."""

    def __init__(self, backbone: Conv4, preprocessing: Preprocessing) -> None:
        self._backbone, self._preprocessing, self._tables = backbone, preprocessing, layers(backbone, preprocessing)
        self._positions, self._columns = positions_after(self._tables), TAPS * preprocessing.channels
        self.n_features = backbone.filters * self._positions
        self._traces: list[conv4.Trace] = []

    def images(self, g: Nodes, name: str) -> str:
        """uint8 images as input of the first layer."""
        return conv4.pixels(g, name, self._preprocessing)

    def prepared(self, g: Nodes, x: str) -> str:
        """The support set's patches, gathered once before the first step."""
        return conv4.gather_patches(g, x, self._tables[0])

    def states(self, params: Params) -> list[NDArray[np.float64]]:
        """One matrix with the first kernel, all scales and all shifts as rows; then each of the other kernels."""

        def kernel(i: int) -> NDArray[np.float64]:
            taps = array(params[f"conv{i}.weight"]).transpose(2, 3, 1, 0)
            return taps.reshape(-1, self._backbone.filters)

        norms = [array(params[f"norm{i}.{part}"])[None] for part in ("weight", "bias") for i in range(1, 5)]
        return [np.concatenate([kernel(1), *norms]), *map(kernel, range(2, 5))]

    def head(self, params: Params) -> NDArray[np.float64]:
        """Weights by position and filter, then the bias: (features + 1, n_way)."""
        weight, bias = (array(params[name]) for name in HEAD)
        by_position = weight.reshape(len(bias), self._backbone.filters, -1).transpose(2, 1, 0)
        return np.concatenate([by_position.reshape(-1, len(bias)), bias[None]])

    def forward(self, b: Nodes, patches: str, states: Sequence[str]) -> str:
        """The features of a mini-batch's patches, with a column of ones."""
        w = self._weights(b, states)
        first = conv4.first(b, patches, self._columns)
        self._traces = [conv4.forward_first(b, first, self._tables[0], w[0], self._backbone)]
        for layer, weights in zip(self._tables[1:], w[1:], strict=True):
            self._traces.append(conv4.forward(b, self._traces[-1].output, layer, weights, self._backbone))
        self._w = w
        return conv4.features(b, self._traces[-1].output, self._positions, self._backbone.filters)

    def backward(self, b: Nodes, gradient: str) -> list[str]:
        """Gradients of the states from that of the features, (n, features): the backward pass of `forward`."""
        filters, traces, w = self._backbone.filters, self._traces, self._w
        gradient = b("Reshape", gradient, b.integers(-1, self._positions, filters))
        by_layer: list[tuple[str, str, str]] = []
        for trace, layer, weights in zip(traces[:0:-1], self._tables[:0:-1], w[:0:-1], strict=True):
            gradient, *others = conv4.backward(b, gradient, trace, layer, weights, filters)
            by_layer.insert(0, (others[0], others[1], others[2]))
        by_layer.insert(0, conv4.backward_first(b, gradient, traces[0], self._tables[0], w[0], filters, self._columns))
        kernels, gammas, betas = zip(*by_layer, strict=True)
        return [b("Concat", kernels[0], *gammas, *betas, axis=0), *kernels[1:]]

    def classify(
        self, g: Nodes, x: str, queries: str, ends: Sequence[str], head: str, params: Params
    ) -> tuple[str, dict[str, tuple[str, tuple[int, ...]]]]:
        """The queries' logits, and the classifier's tensors: name in PyTorch -> result in the graph and shape.

        Biases before a norm are those of `params`, unchanged: their gradient is zero.
        """
        backbone, filters, channels = self._backbone, self._backbone.filters, self._preprocessing.channels
        weights = self._weights(g, ends)
        _, statistics = conv4.predict(g, x, self._tables, weights, head, backbone)
        logits, _ = conv4.predict(g, queries, self._tables, weights, head, backbone, statistics, "transductive")
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        for i, (w, (mean, variance)) in enumerate(zip(weights, statistics, strict=True), 1):
            depth = channels if i == 1 else filters
            kernel = g("Transpose", g("Reshape", w.kernel, g.integers(3, 3, depth, filters)), perm=[3, 2, 0, 1])
            found[f"conv{i}.weight"] = kernel, (filters, depth, 3, 3)
            bias = g.constant(array(params[f"conv{i}.bias"]))
            found[f"conv{i}.bias"] = bias, (filters,)
            flat = {"weight": w.gamma, "bias": w.beta, "mean": g("Add", mean, bias), "var": variance}
            for part, row in flat.items():
                found[f"norm{i}.{part}"] = g("Reshape", row, g.integers(filters)), (filters,)
        return logits, found

    def by_class(self, g: Nodes, rows: str) -> str:
        """The head's weights, (features, n_way), in PyTorch's layout, (n_way, features)."""
        filters, positions = self._backbone.filters, self._positions
        turned = g("Transpose", g("Reshape", rows, g.integers(positions, filters, -1)), perm=[2, 1, 0])
        return g("Reshape", turned, g.integers(-1, self.n_features))

    def _weights(self, g: Nodes, states: Sequence[str]) -> list[conv4.Weights]:
        first, *norms = g.several("Split", 9, states[0], g.integers(self._columns, *[1] * 8), axis=0)
        return [conv4.Weights(kernel, norms[i], norms[4 + i]) for i, kernel in enumerate([first, *states[1:]])]


def array(tensor: ArrayLike) -> NDArray[np.float64]:
    """A tensor as a float64 array."""
    return np.asarray(tensor, np.float64)
