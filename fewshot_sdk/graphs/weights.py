"""A network's weights for its graph, by name, with frozen norms folded in; and group norm, which cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewshot_sdk.config.backbones import GROUP, Backbone, Conv4, Mlp
from fewshot_sdk.graphs.nodes import Nodes

Tensors = Mapping[str, NDArray[np.float32]]
Params = Mapping[str, ArrayLike]  # arrays, or PyTorch's tensors on the CPU


class Tensor(Protocol):
    """The function from a tensor's name in PyTorch to its name in the graph."""

    def __call__(self, name: str, dimensions: int = 1) -> str:
        """The name of the constant or input."""


def folded(tensors: Tensors, backbone: Backbone) -> dict[str, NDArray[np.floating]]:
    """The graph's tensors: each frozen norm is folded into the kernel and bias of the layer before it."""
    norms = backbone.frozen_norms()
    parts = ("weight", "bias", "mean", "var")
    dropped = {f"{norm.norm}.{part}" for norm in norms for part in parts}
    found: dict[str, NDArray[np.floating]] = {name: t for name, t in tensors.items() if name not in dropped}
    for layer, norm, epsilon in norms:
        gamma, beta, mean, variance = (tensors[f"{norm}.{part}"].astype(np.float64) for part in parts)
        scale = gamma / np.sqrt(variance + epsilon)
        kernel, bias = tensors[f"{layer}.weight"].astype(np.float64), tensors.get(f"{layer}.bias", np.zeros(1))
        found[f"{layer}.weight"] = kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))
        found[f"{layer}.bias"] = (bias - mean) * scale + beta
    return found


def normed(
    g: Nodes, x: str, tensor: Tensor, i: int, backbone: Conv4 | Mlp, kind: type[np.floating], *, images: bool = False
) -> str:
    """Layer i's output, (n, channels) or images (n, channels, h, w), after group norm; unchanged with other norms."""
    if backbone.norm != "group":
        return x
    groups = backbone.widths[i - 1] // GROUP
    one, zero = (g.constant(np.full(groups, value), kind) for value in (1, 0))
    parts = g("Reshape", x, g.integers(0, groups, -1))
    units = g("InstanceNormalization", parts, one, zero, epsilon=backbone.norm_epsilon)
    scale, shift = tensor(f"norm{i}.weight"), tensor(f"norm{i}.bias")
    if images:
        scale, shift = (g("Unsqueeze", row, g.integers(1, 2)) for row in (scale, shift))
    return g("Add", g("Mul", g("Reshape", units, g("Shape", x)), scale), shift)
