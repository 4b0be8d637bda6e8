"""Features: a network's output before its head, with the norm statistics of the support set or with frozen ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_sdk.config.backbone import View
from fewshot_sdk.config.backbones import Backbone
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.engine.processors import side_by_side
from fewshot_sdk.nets.network import HEAD, Network
from fewshot_sdk.nets.norm_statistics import norm_statistics
from fewshot_sdk.nets.params import Params

MANY_PICTURES = 100
AT_ONCE = 64  # images at a time, where each is judged alone: bounds the memory
FEW = 4  # images at a time of a large network, so that even 25 pictures are shared among the cores


def feature_backbones(recipe: Recipe) -> tuple[Backbone, ...]:
    """The backbones whose features prototypes and probes use; a ProtoNet's first is the one it was trained with."""
    found: tuple[Backbone, ...] = recipe.backbone.for_features()
    if recipe.head == "prototype":
        return recipe.backbone, *(backbone for backbone in found[1:] if backbone != recipe.backbone)
    return found


def features(network: Network, params: Params, images: Tensor) -> Tensor:
    """Features of a support set, (n, n_features), with its own norm statistics."""
    network.train()
    if not network.backbone.judges_alone:
        return _before_head(network, params, images)
    return torch.cat([_before_head(network, params, batch) for batch in torch.split(images, AT_ONCE)])


def features_of_views(networks: Sequence[Network], params: Params, images: Tensor) -> list[Tensor]:
    """Features of a support set for each of several summaries of one network, each (views, n, n_features).

    networks: of one backbone, with different summaries; the layers that they share run once. The work is shared among
    the cores, with the bits of a single thread. Call it under `one_thread`.
    """
    first, views = networks[0], views_of(networks[0].backbone, len(images))
    if len(networks) == 1 and views == ("whole",):
        return [features(first, params, images).unsqueeze(0)]
    weights = {f"first.{name}": tensor for name, tensor in params.items() if name not in HEAD}
    return outputs_of_views(_Body(networks), weights, images, views)


def outputs_of_views(module: nn.Module, weights: Params, images: Tensor, views: Sequence[View]) -> list[Tensor]:
    """The outputs, each (views, n, ...), of a module that judges each image alone and gives a list for a batch of them.

    Shared among the cores, a few images at a time: same bits for any number. Call it under `one_thread`.
    """
    batches = [(batch, view) for view in views for batch in torch.split(images, FEW)]
    named = {f"module.{name}": tensor for name, tensor in weights.items()}
    parts: list[list[Tensor]] = functional_call(_SideBySide(module), named, (batches,))
    return [torch.cat(part).view(len(views), len(images), *part[0].shape[1:]) for part in zip(*parts, strict=True)]


class _SideBySide(nn.Module):
    """A module on several batches at once. `functional_call` is outside: it changes the module for all threads."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batches: Sequence[tuple[Tensor, View]]) -> list[list[Tensor]]:
        return list(side_by_side([partial(self._found, batch, view) for batch, view in batches]))

    def _found(self, batch: Tensor, view: View, cores: int) -> list[Tensor]:  # noqa: ARG002
        with torch.no_grad():
            found: list[Tensor] = self.module(seen_as(batch, view))
        return found


def views_of(backbone: Backbone, n_images: int) -> tuple[View, ...]:
    """The views of a support set of that size: the first two for one of more than 100 pictures."""
    return backbone.views if n_images <= MANY_PICTURES else backbone.views[:2]


class _Body(nn.Module):
    """Features by each of several networks that differ in the summary, from one pass."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.first = networks[0].before_summary()
        self._networks = networks

    def forward(self, images: Tensor) -> list[Tensor]:
        outputs = self.first.outputs(images)
        return [network.summarize(outputs) for network in self._networks]


def seen_as(images: Tensor, view: View) -> Tensor:
    """uint8 (n, height, width, channels): the whole pictures, mirrored, or one of their corners, enlarged.

    A corner is 6/7 of the picture in height and width.
    """
    if view == "whole":
        return images
    if view == "mirrored":
        return images.flip(2)
    height, width = images.shape[1:3]
    down, right = height // 7, width // 7
    rows = slice(down, None) if view.startswith("bottom") else slice(None, height - down)
    columns = slice(right, None) if view.endswith("right") else slice(None, width - right)
    corner = images[:, rows, columns].permute(0, 3, 1, 2).float()
    scaled = F.interpolate(corner, (height, width), mode="bilinear")
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1)


def frozen_features(network: Network, images: Tensor) -> Tensor:
    """Features of images, (n, n_features), with the frozen norm statistics of a classifier's network."""
    return _before_head(network, {}, images)


def _before_head(network: Network, params: Params, images: Tensor) -> Tensor:
    body = {name: tensor for name, tensor in params.items() if name not in HEAD}
    with torch.no_grad():
        found: Tensor = functional_call(network.before_head(), body, (images,))
    return found


def frozen(network: Network, params: Params, support: Tensor) -> Params:
    """The network's complete state dict: the weights, and the norms' statistics over the support set."""
    network.train()
    return {**params, **norm_statistics(network, params, support)}
