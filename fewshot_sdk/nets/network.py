"""Networks from their settings: uint8 images (n, height, width, channels) in, logits (n, n_way) out."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from fewshot_sdk.config.backbone import HEAD as HEAD
from fewshot_sdk.config.backbones import BACKBONES, Backbone
from fewshot_sdk.config.recipe import Preprocessing, Rows
from fewshot_sdk.nets.params import Params
from fewshot_sdk.nets.summaries import Statistics, Summarized
from fewshot_sdk.tables import referred


class PixelInput(nn.Module):
    """(pixel / 255 - mean) / std: uint8 (n, h, w, c) -> float (n, c, h, w), stored channels last."""

    def __init__(self, settings: Preprocessing) -> None:
        super().__init__()
        self.settings = settings
        values = {name: torch.tensor(getattr(settings, name)).view(1, -1, 1, 1) for name in ("mean", "std")}
        self.register_buffer("mean", values["mean"], persistent=False)
        self.register_buffer("std", values["std"], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """The network's input."""
        return self.normalized(images.permute(0, 3, 1, 2).to(self.mean.dtype) / 255)

    def normalized(self, pixels: Tensor) -> Tensor:
        """The network's input for pixels from 0 to 1, float (n, c, h, w)."""
        return (pixels - self.mean) / self.std


class Network(nn.Sequential):
    """The layers in order, and the settings they were made from."""

    def __init__(
        self, layers: OrderedDict[str, nn.Module], backbone: Backbone, preprocessing: Preprocessing, n_way: int
    ) -> None:
        super().__init__(layers)
        self.backbone, self.preprocessing, self.n_way = backbone, preprocessing, n_way

    def forward(self, input: Tensor) -> Tensor:
        """uint8 (n, height, width, channels) -> logits (n, n_way)."""
        outputs: list[Tensor] = []
        for layer in self:
            input = layer(outputs[-layer.last :] if isinstance(layer, Statistics) else input)
            if isinstance(layer, Summarized):
                outputs.append(input)
        return input

    def before_summary(self) -> Network:
        """The layers up to the last `Summarized` one, which networks that differ in the summary share."""
        children = list(self.named_children())
        last = max(i for i, (_, layer) in enumerate(children) if isinstance(layer, Summarized))
        return Network(OrderedDict(children[: last + 1]), self.backbone, self.preprocessing, self.n_way)

    def outputs(self, input: Tensor) -> list[Tensor]:
        """The outputs of the `Summarized` layers of a body, for uint8 (n, height, width, channels)."""
        found: list[Tensor] = []
        for layer in self:
            input = layer(input)
            if isinstance(layer, Summarized):
                found.append(input)
        return found

    def summarize(self, outputs: list[Tensor]) -> Tensor:
        """Features (n, n_features) from the `outputs` of the body."""
        x = outputs[-1]
        for name, layer in list(self.named_children())[len(self.before_summary()) :]:
            if name != "head":
                x = layer(outputs[-layer.last :] if isinstance(layer, Statistics) else x)
        return x

    def before_head(self) -> Network:
        """The same layers without the head, for features (n, n_features)."""
        layers = OrderedDict((name, layer) for name, layer in self.named_children() if name != "head")
        return Network(layers, self.backbone, self.preprocessing, self.n_way)


class Layers(Protocol):
    """The function that `BACKBONES` names as `layers`."""

    def __call__(
        self, backbone: Backbone, preprocessing: Preprocessing, *, norm: bool
    ) -> tuple[OrderedDict[str, nn.Module], int]:
        """The layers from pixels, float (n, c, h, w), to features, and the number of features.

        norm: the network for pre-training, if it is a different one, with batch norm after each convolution.
        """


def build_network(backbone: Backbone, preprocessing: Preprocessing, n_way: int, *, norm: bool = False) -> Network:
    """An untrained network, in training mode: `pixels`, the backbone's layers, `head`.

    norm: a residual network for pre-training, with batch norm after each convolution.
    """
    make = cast("Layers", referred(BACKBONES[backbone.kind].layers))
    body, features = make(backbone, preprocessing, norm=norm)
    pixels = nn.Identity() if isinstance(preprocessing, Rows) else PixelInput(preprocessing)
    layers: OrderedDict[str, nn.Module] = OrderedDict(pixels=pixels)
    layers |= body
    layers["head"] = nn.Linear(features, n_way)
    return Network(layers, backbone, preprocessing, n_way)


def random_params(network: nn.Module, seed: int) -> Params:
    """Fresh weights: Glorot uniform kernels, zero biases, norms with scale 1.

    A pure function of the network's shapes and `seed`.  Source: the reference implementation.
    """
    generator = torch.Generator().manual_seed(seed)
    params = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    for name, tensor in params.items():
        if tensor.dim() > 1:
            nn.init.xavier_uniform_(tensor, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(tensor)
    return params
