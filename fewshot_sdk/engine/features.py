"""What a network says of pictures before its head: features, by the support set's statistics or by frozen ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from fewshot_sdk.config.backbones import Backbone
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.nets.network import HEAD, Network, norm_statistics
from fewshot_sdk.nets.params import Params

AT_ONCE = 64  # pictures, where each is judged alone: bounds the memory


def seen_still(recipe: Recipe) -> Backbone:
    """The backbone as class means and probes see by it; a ProtoNet keeps what it was trained with."""
    return recipe.backbone if recipe.head == "prototype" else recipe.backbone.for_features()


def features(network: Network, params: Params, images: Tensor) -> Tensor:
    """What the head sees of a support set, by its own statistics: (n, n_features)."""
    network.train()
    if not network.backbone.judges_alone:
        return _before_head(network, params, images)
    return torch.cat([_before_head(network, params, few) for few in torch.split(images, AT_ONCE)])


def frozen_features(network: Network, images: Tensor) -> Tensor:
    """What the head of a classifier's network sees, by the network's frozen statistics: (n, n_features)."""
    return _before_head(network, {}, images)


def _before_head(network: Network, params: Params, images: Tensor) -> Tensor:
    body = {name: tensor for name, tensor in params.items() if name not in HEAD}
    with torch.no_grad():
        found: Tensor = functional_call(network.before_head(), body, (images,))
    return found


def frozen(network: Network, params: Params, support: Tensor) -> Params:
    """The weights, and the norms' statistics over the support set: all that the network's state dict names."""
    network.train()
    return {**params, **norm_statistics(network, params, support)}
