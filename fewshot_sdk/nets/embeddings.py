"""Rows of numbers as features: scaled, and nothing else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot_sdk.config.backbones import Embeddings
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.nets.params import Params
from fewshot_sdk.nets.summaries import Statistics, Summarized

SMALLEST = 1e-30  # a standard deviation to divide by
LEAST = 1e-6  # a column that varies less, beside all columns together, is taken to be constant


class Whole(Summarized):
    """(x - centre) / spread, with one spread for all columns."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.centre, self.spread = nn.Parameter(torch.zeros(columns)), nn.Parameter(torch.ones(1))

    def forward(self, rows: Tensor) -> Tensor:
        """(n, columns) -> (n, columns)."""
        return (rows - self.centre) / self.spread


class Columns(Summarized):
    """x * gain, with a gain for each column."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(columns))

    def forward(self, rows: Tensor) -> Tensor:
        """(n, columns) -> (n, columns)."""
        return rows * self.gain


class Before(Statistics):
    """The output of the last layer but one."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Both outputs, each (n, columns) -> the first."""
        return inputs[0]


def layers(
    backbone: Embeddings, preprocessing: Preprocessing, *, norm: bool  # noqa: ARG001
) -> tuple[OrderedDict[str, nn.Module], int]:  # fmt: skip
    """`flat`, `whole`, `columns`, and `before` unless columns are scaled; the number of features is that of columns."""
    n = preprocessing.height * preprocessing.width * preprocessing.channels
    found: OrderedDict[str, nn.Module] = OrderedDict(flat=nn.Flatten(), whole=Whole(n), columns=Columns(n))
    if backbone.scaling != "columns":
        found["before"] = Before()
    return found, n


def scales(rows: Tensor, backbone: Embeddings) -> Params:
    """The weights that scale a support set, (n, columns): to a mean square of 1, and the same for each column.

    For the scaling `none` they change nothing.
    """
    found = rows.double()
    variance = found.var(0, correction=0)
    spread = variance.mean().sqrt()
    centre, gain = found.mean(0), spread / variance.sqrt()
    gain[variance.sqrt() <= LEAST * spread] = 1.0
    if backbone.scaling == "none" or not spread > SMALLEST:
        centre, spread, gain = torch.zeros_like(centre), torch.ones_like(spread), torch.ones_like(gain)
    return {
        "whole.centre": centre.float(), "whole.spread": spread.float().reshape(1), "columns.gain": gain.float(),
    }  # fmt: skip
