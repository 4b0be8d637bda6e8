"""What a new backbone adds as graphs/NAME.py: the same layers as ONNX nodes; the batch norm is already folded in."""

from __future__ import annotations

import numpy as np

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes
from fewshot_sdk.graphs.weights import Tensor
from tests.toys.stamp_settings import Stamp


def features(
    g: Nodes, x: str, tensor: Tensor, backbone: Stamp, preprocessing: Preprocessing, kind: type[np.floating]
) -> str:  # fmt: skip
    x = g("Conv", x, tensor("stamp.weight", 4), tensor("stamp.bias"), strides=[backbone.side] * 2)
    return g("GlobalAveragePool", g("Relu", x))
