"""Fully connected layers as ONNX nodes."""

from __future__ import annotations

import numpy as np

from fewshot_sdk.config.backbones import Mlp
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes
from fewshot_sdk.graphs.weights import Tensor, normed


def features(
    g: Nodes, x: str, tensor: Tensor, backbone: Mlp, preprocessing: Preprocessing, kind: type[np.floating]  # noqa: ARG001
) -> str:  # fmt: skip
    """The features, (n, n_features)."""
    x = g("Flatten", x)
    for i in range(1, len(backbone.widths) + 1):
        x = g("Gemm", x, tensor(f"hidden{i}.weight", 2), tensor(f"hidden{i}.bias"), transB=1)
        x = g("Relu", normed(g, x, tensor, i, backbone, kind))
    return x
