"""Any network that judges each image alone in a learner whose steps move the head: its features are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.backbone import HEAD
from fewshot_sdk.config.backbones import BACKBONES, Backbone
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.classifier import Features
from fewshot_sdk.graphs.nodes import Nodes
from fewshot_sdk.graphs.weights import Params, array
from fewshot_sdk.tables import referred


class FrozenForm:
    """A network's features, (n, n_features), with a column of ones; the loop has no states but the head.

    params: the initialization's weights, which stay as they are.
    """

    def __init__(self, backbone: Backbone, preprocessing: Preprocessing, n_features: int, params: Params) -> None:
        self._backbone, self._preprocessing, self.n_features = backbone, preprocessing, n_features
        self._params = {
            name: params[name] for name in sorted(params) if name not in HEAD
        }  # files have them in any order

    def images(self, g: Nodes, name: str) -> str:
        """uint8 images as pixels, (n, channels, height, width), normalized."""
        mean, std = self._preprocessing.mean, self._preprocessing.std
        x = g("Div", g("Cast", g("Transpose", name, perm=[0, 3, 1, 2]), to=1), g.scalar(255))
        return g("Div", g("Sub", x, _by_channel(g, mean)), _by_channel(g, std))

    def prepared(self, g: Nodes, x: str) -> str:
        """The support set's features."""
        return self._features(g, x)

    def states(self, params: Params) -> list[NDArray[np.float64]]:  # noqa: ARG002
        """None."""
        return []

    def head(self, params: Params) -> NDArray[np.float64]:
        """Weights, then the bias: (features + 1, n_way)."""
        weight, bias = (array(params[name]) for name in HEAD)
        return np.concatenate([weight.T, bias[None]])

    def forward(self, b: Nodes, x: str, states: Sequence[str]) -> str:  # noqa: ARG002
        """The mini-batch's features as they are."""
        return x

    def backward(self, b: Nodes, gradient: str) -> list[str]:  # noqa: ARG002
        """None."""
        return []

    def classify(
        self, g: Nodes, x: str, queries: str, ends: Sequence[str], head: str, params: Params  # noqa: ARG002
    ) -> tuple[str, dict[str, tuple[str, tuple[int, ...]]]]:  # fmt: skip
        """The queries' logits, and the body's tensors, which are the initialization's."""
        logits = g("MatMul", self._features(g, queries), head)
        return logits, {name: (self._tensor(g, name), np.shape(t)) for name, t in self._params.items()}

    def by_class(self, g: Nodes, rows: str) -> str:
        """The head's weights, (features, n_way), in PyTorch's layout, (n_way, features)."""
        return g("Transpose", rows, perm=[1, 0])

    def _features(self, g: Nodes, x: str) -> str:
        def tensor(name: str, dimensions: int = 1) -> str:  # noqa: ARG001
            return self._tensor(g, name)

        nodes = cast("Features", referred(BACKBONES[self._backbone.kind].graph))
        found = g("Flatten", nodes(g, x, tensor, self._backbone, self._preprocessing, np.float32))
        return g("Pad", found, g.integers(0, 0, 0, 1), g.scalar(1))

    def _tensor(self, g: Nodes, name: str) -> str:
        return g.constant(np.asarray(self._params[name]))


def _by_channel(g: Nodes, values: Sequence[float]) -> str:
    return g.constant(np.reshape(values, (1, -1, 1, 1)))
