from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewshot_sdk.config.backbones import Backbone, Conv4, EfficientNet, Mlp, Residual, Timm
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.nets.heat_maps import heat_maps, layer_shapes
from fewshot_sdk.nets.network import Network, build_network, random_params
from fewshot_sdk.nets.norm_statistics import norm_statistics

N_WAY = 4
NETWORKS: dict[str, tuple[Backbone, tuple[int, int], list[tuple[int, int]]]] = {
    "conv4 stride": (Conv4(filters=8), (28, 28), [(2, 2)]),
    "conv4 pool": (Conv4(filters=8, downsample="pool"), (40, 56), [(3, 4)]),
    "conv4 group": (Conv4(filters=8, norm="group"), (28, 44), [(2, 3)]),
    "residual mean": (Residual(widths=(8, 12, 16)), (36, 52), [(5, 7)]),
    "residual statistics": (Residual(widths=(8, 12, 16), summary="statistics"), (36, 52), [(5, 7), (9, 13)]),
    "efficientnet mean": (EfficientNet(), (64, 96), [(2, 3)]),
    "efficientnet roots": (EfficientNet(summary="roots"), (64, 96), [(2, 3)]),
    "efficientnet statistics": (EfficientNet(summary="statistics"), (64, 96), [(2, 3), (2, 3), (2, 3), (4, 6)]),
}


def made(backbone: Backbone, sides: tuple[int, int]) -> tuple[Network, Tensor]:
    """A network in float64 with random weights, a head with a mean that is not zero, and pictures."""
    preprocessing = Preprocessing(height=sides[0], width=sides[1], channels=3, resize="bilinear", mean=(0.5,) * 3)
    network = build_network(backbone, preprocessing, N_WAY)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (3, *sides, 3), generator=generator, dtype=torch.uint8)
    params = random_params(network, 0)
    for name in ("head.weight", "head.bias"):
        params[name] = torch.randn(params[name].shape, generator=generator) + 1
    params |= norm_statistics(network, params, images)
    network.load_state_dict(params)
    return network.double().eval().requires_grad_(False), images


@pytest.mark.parametrize("name", NETWORKS)
def test_a_heat_map_and_the_bias_add_up_to_the_logit_above_the_mean_logit(name: str) -> None:
    backbone, sides, grids = NETWORKS[name]
    network, images = made(backbone, sides)
    logits, bias = network(images) / 2, network.get_parameter("head.bias") / 2
    for classes in (None, torch.tensor([3, 0, 1])):
        maps, found = heat_maps(network, images, classes, temperature=2)
        asked = logits.argmax(1) if classes is None else classes
        above = (logits - logits.mean(1, keepdim=True)).gather(1, asked[:, None])[:, 0]
        torch.testing.assert_close(found, logits)
        torch.testing.assert_close(maps.sum((1, 2)) + bias[asked] - bias.mean(), above, rtol=1e-9, atol=1e-9)
        assert maps.shape[1:] == (max(h for h, _ in grids), max(w for _, w in grids))
    assert [sides for _, *sides in layer_shapes(backbone, network.preprocessing)] == [[*grid] for grid in grids]


def test_where_a_picture_is_the_same_everywhere_its_map_has_no_not_a_number() -> None:
    network, images = made(*NETWORKS["residual statistics"][:2])
    maps, _ = heat_maps(network, torch.zeros_like(images))
    assert bool(maps.isfinite().all())


@pytest.mark.parametrize("backbone", [Mlp(widths=(8,)), Timm(name="resnet10t")])
def test_a_network_without_positions_has_no_heat_map(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match=r"has no heat map.*conv4, residual, efficientnet"):
        layer_shapes(backbone, Preprocessing(height=16, width=16, channels=3, resize="box"))
