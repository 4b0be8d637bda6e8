"""The norm after a layer: batch norm with the current batch's statistics, group norm, or none."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_sdk.config.backbones import GROUP, Conv4, Mlp


class BatchNorm(nn.Module):
    """Batch norm that uses the current batch's statistics in training mode, and keeps no running average.

    In evaluation mode it uses `mean` and `var`, which are set once, from a support set.
    """

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))
        self.mean: Tensor
        self.var: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) or (n, c), with each channel normalized to mean `bias` and standard deviation `weight`."""
        mean, var = (None, None) if self.training else (self.mean, self.var)
        return F.batch_norm(input, mean, var, self.weight, self.bias, self.training, 0.0, self.epsilon)


def norm_after(i: int, channels: int, backbone: Conv4 | Mlp) -> OrderedDict[str, nn.Module]:
    """`norm{i}` for that number of channels, or nothing."""
    if backbone.norm == "none":
        return OrderedDict()
    if backbone.norm == "group":
        return OrderedDict({f"norm{i}": nn.GroupNorm(channels // GROUP, channels, backbone.norm_epsilon)})
    return OrderedDict({f"norm{i}": BatchNorm(channels, backbone.norm_epsilon)})
