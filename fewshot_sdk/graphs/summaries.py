"""From a network's last layers to one row of features per image, as ONNX nodes, in float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from fewshot_sdk.graphs.nodes import Nodes

_FLOAT = onnx.TensorProto.FLOAT


def even(g: Nodes, parts: Sequence[str], widths: Sequence[int], kind: type[np.floating]) -> str:
    """Parts of images (n, width, 1, 1), each scaled to one length, as features of dtype `kind`, (n, sum of widths)."""
    rows = [_normalized(g, g("Cast", g("Flatten", part), to=_FLOAT)) for part in parts]
    found = g("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
    found = g("Mul", found, g.scalar((sum(widths) / len(widths)) ** 0.5))
    return g("Cast", found, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)))


def statistics(g: Nodes, outputs: Sequence[str]) -> list[str]:
    """Mean and standard deviation over positions of each layer's output, last layer first: (n, channels, 1, 1) each."""
    return [part for x in reversed(outputs) for part in _statistics(g, x)]


def _statistics(g: Nodes, x: str) -> tuple[str, str]:
    x = g("Cast", x, to=_FLOAT)
    mean = g("GlobalAveragePool", x)
    apart = g("Sub", x, mean)
    return mean, g("Sqrt", g("GlobalAveragePool", g("Mul", apart, apart)))


def _normalized(g: Nodes, x: str) -> str:
    return g("Div", x, g("Max", g("ReduceL2", x, g.integers(1), keepdims=1), g.scalar(1e-12)))
