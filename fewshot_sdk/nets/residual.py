"""A small residual network for photographs whose normalization is folded into its convolutions.

During pre-training, batch norm follows each convolution. Afterwards the norms' running statistics are constants and
are folded into the convolution's weight and bias, so each image is judged alone, in any mode.
Source: He et al. 2016, for the blocks; Ioffe and Szegedy 2015, section 3.1, for the folding.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fewshot_sdk.config.backbones import Residual
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.nets.params import Params
from fewshot_sdk.nets.summaries import EvenLength, Statistics, Summarized


class Convolution(nn.Module):
    """A convolution with "same" padding, and with batch norm during pre-training.

    A 1x1 convolution is given every stride-th pixel and has stride 1: with a larger stride oneDNN's backward pass
    writes out of bounds if there are few channels. Source: github.com/uxlfoundation/oneDNN/issues/6035.
    """

    def __init__(self, channels: int, filters: int, size: int, stride: int, *, norm: bool) -> None:
        super().__init__()
        self._skip = stride if size == 1 else 1
        self.conv = nn.Conv2d(channels, filters, size, stride // self._skip, size // 2, bias=not norm)
        self.norm = nn.BatchNorm2d(filters) if norm else nn.Identity()

    def forward(self, input: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, filters, ceil(h / stride), ceil(w / stride))."""
        output: Tensor = self.norm(self.conv(input[..., :: self._skip, :: self._skip]))
        return output


class Block(Summarized):
    """relu(conv(relu(conv(x))) + x), with a 1x1 convolution on x where shapes differ."""

    def __init__(self, channels: int, filters: int, stride: int, *, norm: bool) -> None:
        super().__init__()
        self.first = Convolution(channels, filters, 3, stride, norm=norm)
        self.second = Convolution(filters, filters, 3, 1, norm=norm)
        same = channels == filters and stride == 1
        self.shortcut = nn.Identity() if same else Convolution(channels, filters, 1, stride, norm=norm)

    def forward(self, input: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, filters, ceil(h / stride), ceil(w / stride))."""
        output: Tensor = self.second(F.relu(self.first(input)))
        return F.relu(output + self.shortcut(input))


def layers(backbone: Residual, preprocessing: Preprocessing, *, norm: bool) -> tuple[OrderedDict[str, nn.Module], int]:
    """A stem that halves the image, the blocks and the summary over positions; and the number of features.

    With `norm`, for pre-training, the features keep their lengths.
    """
    first, *rest = backbone.widths
    found: OrderedDict[str, nn.Module] = OrderedDict(
        stem=Convolution(preprocessing.channels, first, 3, 2, norm=norm),
        relu=nn.ReLU(),
        block1=Block(first, first, 1, norm=norm),
    )
    for i, width in enumerate(rest, 2):
        found[f"block{i}"] = Block(backbone.widths[i - 2], width, 2, norm=norm)
    if backbone.summary == "statistics":
        found["statistics"] = Statistics()
        return found, 2 * sum(backbone.widths[-2:])
    found["mean"] = nn.AdaptiveAvgPool2d(1)
    found["flat"] = nn.Flatten()
    if not norm:
        found["even"] = EvenLength()
    return found, backbone.widths[-1]


def folded(network: nn.Module) -> Params:
    """Weights for the same network without norms, by their names there; `network` has norms."""
    found: Params = {}
    for name, module in network.named_modules():
        if isinstance(module, Convolution):
            norm = module.norm
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            weight, bias = fuse_conv_bn_weights(
                module.conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            found |= {f"{name}.conv.weight": weight.detach().clone(), f"{name}.conv.bias": bias.detach().clone()}
        elif isinstance(module, nn.Linear):
            found |= {f"{name}.{key}": tensor.detach().clone() for key, tensor in module.named_parameters()}
    return {name: tensor.contiguous() for name, tensor in found.items()}


def draw(network: nn.Module, seed: int) -> None:
    """Set fresh weights before pre-training, in place: He-normal kernels; norms and biases stay as constructed."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
