"""Scaled rows of numbers as ONNX nodes."""

from __future__ import annotations

import numpy as np

from fewshot_sdk.config.backbones import Embeddings
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes
from fewshot_sdk.graphs.weights import Tensor


def features(
    g: Nodes, x: str, tensor: Tensor, backbone: Embeddings, preprocessing: Preprocessing, kind: type[np.floating]  # noqa: ARG001
) -> str:  # fmt: skip
    """The features, (n, n_features)."""
    x = g("Div", g("Sub", g("Flatten", x), tensor("whole.centre")), tensor("whole.spread"))
    return g("Mul", x, tensor("columns.gain")) if backbone.scaling == "columns" else x
