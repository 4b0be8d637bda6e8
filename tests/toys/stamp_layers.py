"""What a new backbone adds as nets/NAME.py: its layers from pixels to features, and the number of features."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.nets.norms import BatchNorm
from tests.toys.stamp_settings import Stamp


def layers(backbone: Stamp, preprocessing: Preprocessing, *, norm: bool) -> tuple[OrderedDict[str, nn.Module], int]:
    stamp = nn.Conv2d(preprocessing.channels, backbone.filters, backbone.side, backbone.side)
    found: OrderedDict[str, nn.Module] = OrderedDict(
        stamp=stamp, norm=BatchNorm(backbone.filters, 1e-3), relu=nn.ReLU(), mean=nn.AdaptiveAvgPool2d(1)
    )
    found["flat"] = nn.Flatten()
    return found, backbone.filters
