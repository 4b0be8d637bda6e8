"""Heat maps: how much each position of a picture adds to its class's logit, exactly, by the head's weights.

A network's features are sums over the positions of its last layers, up to one factor for each picture and feature, so
the linear head's logits are sums over positions as well.
Source: Zhou et al. 2016, class activation mapping, for means; here extended to the other summaries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot_sdk.config.backbones import BACKBONES, Backbone
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.images.grids import Sides, common_sides, overlaps
from fewshot_sdk.nets.network import Network, build_network
from fewshot_sdk.nets.summaries import ROOT_FLOOR, SHORTEST

TINY = 1e-30  # instead of a standard deviation of 0


def check_has_positions(backbone: Backbone) -> None:
    """Raises ConfigError for a network whose features are no sums over positions."""
    if not backbone.has_positions:
        able = [kind for kind, row in BACKBONES.items() if row.settings.has_positions]
        raise ConfigError(
            f"a {backbone.kind} network has no heat map, because its features are no sums over the positions of a "
            f"picture; those of {', '.join(able)} networks are"
        )


def heat_maps(
    network: Network, images: Tensor, classes: Tensor | None = None, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """What each position adds to a class's logit above the mean logit of all classes: (n, h, w); and the logits.

    The sum over positions plus the bias, above its mean over the classes too, is that logit. Where several layers are
    summarized, h and w are those of the finest.
    images: uint8 (n, height, width, channels). classes: int64 (n,); None: the most probable. temperature: divides the
    logits. Raises ConfigError as `check_has_positions` does.
    """
    check_has_positions(network.backbone)
    layers, features = summarized(network, images)
    head = network.get_submodule("head")
    logits: Tensor = head(features) / temperature
    weight = network.get_parameter("head.weight")
    rows = ((weight - weight.mean(0)) / temperature)[logits.argmax(1) if classes is None else classes]
    flat = hasattr(network, "flat") and not hasattr(network, "mean")
    sides, maps, first = common_sides([(x.shape[2], x.shape[3]) for x in layers]), [], 0
    for share in _shares(network, layers, features):
        n, channels, *positions = share.shape
        shape = (n, channels, *(positions if flat else (1, 1)))
        width = math.prod(shape[1:])
        maps.append(_on_grid((share * rows[:, first : first + width].view(shape)).sum(1), sides))
        first += width
    return torch.stack(maps).sum(0), logits


def summarized(network: Network, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """The outputs of the layers that the features summarize, in the features' order; and the features."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor | Sequence[Tensor]]) -> None:  # noqa: ARG001
        (given,) = inputs
        seen.extend([given] if isinstance(given, Tensor) else reversed(given))

    name = next(name for name in ("statistics", "mean", "flat") if hasattr(network, name))
    hook = network.get_submodule(name).register_forward_pre_hook(keep)
    try:
        features = network.before_head()(images)
    finally:
        hook.remove()
    return seen, features


def _shares(network: Network, layers: Sequence[Tensor], features: Tensor) -> list[Tensor]:
    """The features, distributed over positions: each (n, channels, h, w), the sums over which are the features."""
    if hasattr(network, "statistics"):
        return [share for x in layers for share in _of_statistics(x, features.shape[1] / (2 * len(layers)))]
    (x,) = layers
    if not hasattr(network, "mean"):
        return [x]
    mean, n = x.mean((2, 3), keepdim=True), x.shape[2] * x.shape[3]
    if hasattr(network, "roots"):
        root = (mean + ROOT_FLOOR).sqrt()
        return [_even((x + ROOT_FLOOR) / (n * root), root, features.shape[1])]
    return [_even(x / n, mean, features.shape[1])]


def _of_statistics(x: Tensor, square: float) -> tuple[Tensor, Tensor]:
    """A layer's share of the means and of the standard deviations."""
    mean, n = x.mean((2, 3), keepdim=True), x.shape[2] * x.shape[3]
    apart = (x - mean).square()
    deviation = apart.mean((2, 3), keepdim=True).sqrt()
    return _even(x / n, mean, square), _even(apart / (n * deviation.clamp_min(TINY)), deviation, square)


def _even(share: Tensor, part: Tensor, square: float) -> Tensor:
    """The share, times the factor that gives its part of the features, (n, channels, 1, 1), that sum of squares."""
    factor: Tensor = square**0.5 / part.square().sum(1, keepdim=True).sqrt().clamp_min(SHORTEST)
    return share * factor


def _on_grid(heat: Tensor, sides: Sides) -> Tensor:
    height, width = (
        torch.from_numpy(overlaps(*each)).to(heat.dtype) for each in zip(heat.shape[1:], sides, strict=True)
    )
    return height @ heat @ width.T


def layer_shapes(backbone: Backbone, preprocessing: Preprocessing) -> list[tuple[int, int, int]]:
    """Channels, height and width of each layer that the features summarize, in the features' order.

    Raises ConfigError as `check_has_positions` does.
    """
    check_has_positions(backbone)
    with torch.device("meta"):  # shapes only
        network = build_network(backbone, preprocessing, 2).eval()
        shape = (1, preprocessing.height, preprocessing.width, preprocessing.channels)
        layers, _ = summarized(network, torch.zeros(shape, dtype=torch.uint8))
    return [(x.shape[1], x.shape[2], x.shape[3]) for x in layers]
