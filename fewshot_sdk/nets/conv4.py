"""Conv4: the paper's network of four convolutions."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_sdk.config.backbones import Conv4
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.nets.network import Network, random_params
from fewshot_sdk.nets.norms import norm_after
from fewshot_sdk.nets.padding import same_padding
from fewshot_sdk.nets.params import Params

# Root mean square of the last norm's weights, since features after a batch norm may have any length. With 12, class
# means separate training characters at a temperature of about 1. On held-out training characters, 20-way 1-shot,
# meta-training by class means reached, on redrawn characters, 87.2 % from the 4.1 that pre-training ends with and
# 89.0 % from 16; on unchanged characters, 90.4 % from 12.
LENGTH = 12.0


class SameConv(nn.Conv2d):
    """A 3x3 convolution with TensorFlow's "same" padding: at stride 2 and even sizes, the extra row
    and column of zeros are at the bottom and right. Source: TensorFlow, `tf.nn.conv2d`.
    """

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__(channels, filters, 3, stride)

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, filters, ceil(h / stride), ceil(w / stride))."""
        sides: list[int] = []
        for length, stride in zip(input.shape[:1:-1], self.stride, strict=True):
            sides += same_padding(length, 3, stride)
        return super().forward(F.pad(input, sides))


def layers(backbone: Conv4, preprocessing: Preprocessing, *, norm: bool) -> tuple[OrderedDict[str, nn.Module], int]:  # noqa: ARG001
    """`conv1`, `norm1`, ... `norm4`, `flat`, and the number of features; pre-training uses the same norms.

    Source: Nichol et al. 2018, section 6, after Vinyals et al. 2016; `models.py` of the reference implementation.
    """
    found: OrderedDict[str, nn.Module] = OrderedDict()
    channels: int = preprocessing.channels
    for i in range(1, 5):
        found[f"conv{i}"] = SameConv(channels, backbone.filters, 2 if backbone.downsample == "stride" else 1)
        found |= norm_after(i, backbone.filters, backbone)
        if backbone.downsample == "pool":
            found[f"pool{i}"] = nn.MaxPool2d(2, ceil_mode=True)
        found[f"relu{i}"] = nn.ReLU()
        channels = backbone.filters
    found["flat"] = nn.Flatten()
    height, width = (-(-side // 16) for side in (preprocessing.height, preprocessing.width))
    return found, backbone.filters * height * width


def draw(network: Network, seed: int) -> None:
    """Set fresh weights before pre-training, in place."""
    network.load_state_dict(random_params(network, seed), strict=False)


def at_length(network: Network) -> Params:
    """The weights, with the last norm scaled to a root mean square of LENGTH; class means decide as before."""
    params = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    factor = LENGTH / params["norm4.weight"].square().mean().sqrt()
    return params | {name: params[name] * factor for name in ("norm4.weight", "norm4.bias")}
