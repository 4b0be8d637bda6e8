"""Fully connected layers on the pixels."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fewshot_sdk.config.backbones import Mlp
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.nets.norms import norm_after


def layers(backbone: Mlp, preprocessing: Preprocessing, *, norm: bool) -> tuple[OrderedDict[str, nn.Module], int]:  # noqa: ARG001
    """`flat`, `hidden1`, `norm1`, `relu1`, ..., and the number of features; batch norm replaces biases."""
    found: OrderedDict[str, nn.Module] = OrderedDict(flat=nn.Flatten())
    inputs = preprocessing.height * preprocessing.width * preprocessing.channels
    for i, width in enumerate(backbone.widths, 1):
        found[f"hidden{i}"] = nn.Linear(inputs, width, bias=backbone.judges_alone)
        found |= norm_after(i, width, backbone)
        found[f"relu{i}"] = nn.ReLU()
        inputs = width
    return found, inputs
