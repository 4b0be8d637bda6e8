"""From the outputs of a network's layers to one row of features per image, each image alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORTEST = 1e-12  # the least length that features are divided by
ROOT_FLOOR = 1e-6


class Summarized(nn.Module):
    """A layer whose output a summary can use: `Network` keeps it."""


class EvenLength(nn.Module):
    """Scales all features to the length of a vector of ones: the length carries no information about the class."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, n_features), each row scaled to a mean square of 1."""
        output: Tensor = F.normalize(input) * input.shape[1] ** 0.5
        return output


class Statistics(nn.Module):
    """Means and standard deviations over positions of the last layers, each scaled to one length, concatenated.

    last: how many of the `Summarized` layers. Earlier ones help with images unlike those the network was trained on;
    deviations distinguish textures.
    Source of the idea: Huang and Belongie 2017: a layer's means and deviations are its style.
    """

    def __init__(self, last: int = 2) -> None:
        super().__init__()
        self.last = last

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Each (n, channels, h, w) -> (n, n_features), each row with a mean square of 1."""
        parts = [part for x in reversed(inputs) for part in (x.mean((2, 3)), x.std((2, 3), correction=0))]
        output: Tensor = torch.cat([F.normalize(part) for part in parts], 1)
        output *= (output.shape[1] / len(parts)) ** 0.5
        return output
