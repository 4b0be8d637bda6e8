from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewshot_sdk.config.backbone import View
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.recipe import Conv4, EfficientNet
from fewshot_sdk.engine.features import feature_backbones, features, features_of_views, seen_as, views_of
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.nets.network import Network, build_network, random_params
from fewshot_sdk.nets.params import Params
from tests.conftest import tiny_recipe
from tests.nets.test_efficientnet import PHOTO, even_weights

VIEWS = EfficientNet.views


def networks() -> list[Network]:
    return [build_network(EfficientNet(summary=summary), PHOTO, 2) for summary in ("statistics", "roots")]


@pytest.fixture(scope="module")
def params() -> Params:
    return even_weights(networks()[0])


def pictures(n: int) -> Tensor:
    return torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def test_in_one_view_by_one_summary_they_are_the_features_of_the_network() -> None:
    recipe = tiny_recipe()
    network = build_network(Conv4(filters=4), recipe.preprocessing, 2)
    weights, images = random_params(network, 0), pictures(6)[:, :16, :16, :1]
    with one_thread():
        (found,) = features_of_views([network], weights, images)
        assert torch.equal(found, features(network, weights, images).unsqueeze(0))


def test_of_several_summaries_each_is_what_its_network_alone_gives(params: Params) -> None:
    both, images = networks(), pictures(9)
    with one_thread():
        together = features_of_views(both, params, images)
        for network, found in zip(both, together, strict=True):
            assert torch.equal(features_of_views([network], params, images)[0], found)
            alone = torch.stack([features(network, params, seen_as(images, view)) for view in VIEWS])
            torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)  # other sizes of batches round differently


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_any_number_of_cores_gives_the_same_bits(params: Params, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from networks that are new: threads that share one must not exchange its weights."""
    images = pictures(20)
    with one_thread():
        monkeypatch.setattr("fewshot_sdk.engine.processors.cores", lambda: 1)
        expected = features_of_views(networks(), params, images)
        monkeypatch.setattr("fewshot_sdk.engine.processors.cores", lambda: cores)
        found = features_of_views(networks(), params, images)
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))


def test_the_network_keeps_its_own_weights(params: Params) -> None:
    both = networks()
    before = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in both]
    with one_thread():
        features_of_views(both, params, pictures(3))
    for network, held in zip(both, before, strict=True):
        assert all(torch.equal(tensor, held[name]) for name, tensor in network.state_dict().items())


def test_over_100_pictures_two_views_are_left() -> None:
    assert views_of(EfficientNet(), 100) == VIEWS
    assert views_of(EfficientNet(), 101) == VIEWS[:2] == ("whole", "mirrored")
    assert views_of(Conv4(), 5) == views_of(Conv4(), 500) == ("whole",)


def test_mirroring_twice_is_the_picture_itself() -> None:
    images = pictures(2)
    assert seen_as(images, "whole") is images
    assert not torch.equal(seen_as(images, "mirrored"), images)
    assert torch.equal(seen_as(seen_as(images, "mirrored"), "mirrored"), images)


@pytest.mark.parametrize("view", [view for view in VIEWS if view not in ("whole", "mirrored")])
def test_a_corner_is_enlarged_and_lacks_the_opposite_sides(view: View) -> None:
    images = torch.full((1, 35, 28, 3), 200, dtype=torch.uint8)
    rows = slice(0, 5) if view.startswith("bottom") else slice(30, 35)  # a seventh of the height
    columns = slice(0, 4) if view.endswith("right") else slice(24, 28)
    images[:, rows], images[:, :, columns] = 0, 0
    seen = seen_as(images, view)
    assert (seen.shape, seen.dtype) == (images.shape, torch.uint8)
    assert (seen == 200).all()


def test_a_view_of_each_picture_is_that_of_it_alone() -> None:
    images = pictures(3)
    for view in VIEWS:
        alone = torch.cat([seen_as(image.unsqueeze(0), view) for image in images])
        assert torch.equal(seen_as(images, view), alone)


def test_a_protonet_uses_first_the_features_that_it_was_trained_with() -> None:
    recipe = tiny_recipe(preprocessing=PHOTO, backbone=EfficientNet(summary="roots"))
    statistics, roots = EfficientNet(summary="statistics"), EfficientNet(summary="roots")
    assert feature_backbones(recipe) == (statistics, roots)
    protonet = with_algorithm(recipe, "protonet")
    assert feature_backbones(protonet) == (roots,)
    assert feature_backbones(protonet.replace(backbone=statistics)) == (statistics, roots)
    assert feature_backbones(protonet.replace(backbone=EfficientNet())) == (EfficientNet(), roots)
