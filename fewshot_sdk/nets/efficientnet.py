"""EfficientNet-Lite: a mobile network for photographs, whose weights come trained on ImageNet.

Its batch norms are folded into its convolutions, so each image is judged alone, in any mode. It has neither
squeeze-and-excitation nor swish, which makes it quick and easy to quantize.
Source: Tan and Le 2019; github.com/tensorflow/tpu, models/official/efficientnet/lite; the blocks: Sandler et al. 2018.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_sdk.config.backbones import EfficientNet
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.nets.padding import same_padding
from fewshot_sdk.nets.summaries import ROOT_FLOOR, EvenLength, Statistics, Summarized


class Convolution(nn.Module):
    """A convolution with TensorFlow's "same" padding, then ReLU6 unless `linear`.

    At stride 2 the extra row and column of zeros are at the bottom and right. Source: TensorFlow, `tf.nn.conv2d`.
    """

    def __init__(
        self, channels: int, filters: int, size: int, stride: int = 1, *, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self._even, self._linear = stride > 1, linear
        padding = 0 if self._even else size // 2
        self.conv = nn.Conv2d(channels, filters, size, stride, padding, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, filters, ceil(h / stride), ceil(w / stride))."""
        if self._even:
            sides: list[int] = []
            for length in input.shape[:1:-1]:
                sides += same_padding(length, self.conv.kernel_size[0], self.conv.stride[0])
            input = F.pad(input, sides)
        output: Tensor = self.conv(input)
        return output if self._linear else F.relu6(output)


class Block(nn.Module):
    """Expansion by a 1x1 convolution, a convolution of each channel, a linear 1x1 convolution; plus x where it fits."""

    def __init__(self, channels: int, filters: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = channels * expansion
        self.expand = Convolution(channels, middle, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(middle, middle, size, stride, groups=middle)
        self.project = Convolution(middle, filters, 1, linear=True)
        self._adds = stride == 1 and channels == filters

    def forward(self, input: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, filters, ceil(h / stride), ceil(w / stride))."""
        output: Tensor = self.project(self.depthwise(self.expand(input)))
        return input + output if self._adds else output


class Stage(nn.Sequential, Summarized):
    """Blocks of one width."""


class Top(Convolution, Summarized):
    """The last convolution, 1x1."""


class Roots(nn.Module):
    """Square roots of features that are at least 0: many small values count as much as a few large ones."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, n_features)."""
        return (input + ROOT_FLOOR).sqrt()


def layers(
    backbone: EfficientNet, preprocessing: Preprocessing, *, norm: bool  # noqa: ARG001
) -> tuple[OrderedDict[str, nn.Module], int]:  # fmt: skip
    """`stem`, `stage1`, ... `stage7`, `top` and the summary over positions; and the number of features."""
    channels = backbone.stem
    found: OrderedDict[str, nn.Module] = OrderedDict(stem=Convolution(preprocessing.channels, channels, 3, 2))
    for i, stage in enumerate(backbone.stages, 1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for j in range(1, stage.blocks + 1):
            blocks[f"block{j}"] = Block(
                channels, stage.width, stage.kernel, stage.stride if j == 1 else 1, stage.expansion
            )
            channels = stage.width
        found[f"stage{i}"] = Stage(blocks)
    found["top"] = Top(channels, backbone.top, 1)
    if backbone.summary == "statistics":
        found["statistics"] = Statistics(backbone.summarized)
        widths = [*(stage.width for stage in backbone.stages), backbone.top]
        return found, 2 * sum(widths[-backbone.summarized :])
    found["mean"] = nn.AdaptiveAvgPool2d(1)
    found["flat"] = nn.Flatten()
    if backbone.summary == "roots":
        found["roots"] = Roots()
    found["even"] = EvenLength()
    return found, backbone.top
