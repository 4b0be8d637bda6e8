"""Features: a network's output before its head, with the norm statistics of the support set or with frozen ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from fewshot_sdk.config.backbones import Backbone
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.nets.network import HEAD, Network, norm_statistics
from fewshot_sdk.nets.params import Params

AT_ONCE = 64  # images at a time, where each is judged alone: bounds the memory


def feature_backbone(recipe: Recipe) -> Backbone:
    """The backbone whose features prototypes and probes use; a ProtoNet keeps the one it was trained with."""
    return recipe.backbone if recipe.head == "prototype" else recipe.backbone.for_features()


def features(network: Network, params: Params, images: Tensor) -> Tensor:
    """Features of a support set, (n, n_features), with its own norm statistics."""
    network.train()
    if not network.backbone.judges_alone:
        return _before_head(network, params, images)
    return torch.cat([_before_head(network, params, batch) for batch in torch.split(images, AT_ONCE)])


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
