"""EfficientNet-Lite: its sizes and its summaries. That it is timm's network: tests/artifacts/test_efficientnet.py."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from fewshot_sdk.config.recipe import EfficientNet, Preprocessing
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.nets.params import Params

PHOTO = Preprocessing(height=32, width=32, channels=3, resize="bicubic", fit="stretch", mean=(0.5,), std=(0.5,))


def even_weights(network: nn.Module, seed: int = 0) -> Params:
    """Random weights that keep the size of what goes through the layers, so that rounding stays small."""
    generator = torch.Generator().manual_seed(seed)
    params = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    for name, tensor in params.items():
        if tensor.dim() > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        else:
            tensor.normal_(0, 0.3, generator=generator)
        if name.startswith("head"):
            tensor /= 4
    return params


@pytest.mark.parametrize(("variant", "published"), [("lite0", 4_652_008), ("lite2", 6_092_072)])
def test_it_has_the_published_sizes(variant: Literal["lite0", "lite2"], published: int) -> None:
    """A batch norm has two values a channel where ours is one bias; the classifier is of ImageNet's 1,000 classes."""
    with torch.device("meta"):
        network = build_network(EfficientNet(variant=variant), PHOTO, 1000)
    biases = sum(len(tensor) for name, tensor in network.named_parameters() if name.endswith("conv.bias"))
    assert sum(tensor.numel() for tensor in network.parameters()) + biases == published


@pytest.mark.parametrize(("summary", "n_features"), [("mean", 1280), ("roots", 1280), ("statistics", 3808)])
def test_features_of_every_summary_have_one_length(
    summary: Literal["mean", "roots", "statistics"], n_features: int
) -> None:
    network = build_network(EfficientNet(summary=summary), PHOTO.replace(height=64, width=64), 2)
    network.load_state_dict(even_weights(network))
    images = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = network.before_head()(images)
    assert found.shape == (3, n_features)
    torch.testing.assert_close(found.square().mean(1), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_roots_are_the_square_roots_of_the_means() -> None:
    means, roots = (build_network(EfficientNet(summary=summary), PHOTO, 2) for summary in ("mean", "roots"))
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for network in (means, roots):
            network.load_state_dict(even_weights(network))
        expected = nn.functional.normalize(nn.functional.normalize(means.before_head()(images)).sqrt())
        torch.testing.assert_close(nn.functional.normalize(roots.before_head()(images)), expected, rtol=0, atol=1e-3)
