from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.func import functional_call

from fewshot_sdk.config.backbones import Norm
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import Conv4, Mlp, Preprocessing, Recipe, Residual
from fewshot_sdk.engine.heads import close_head, open_head
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.nets.conv4 import SameConv
from fewshot_sdk.nets.network import build_network, random_params
from fewshot_sdk.nets.norm_statistics import norm_statistics
from fewshot_sdk.nets.params import LearnerState
from tests.reference import numpy_reptile

GREY = Preprocessing(height=28, width=28, channels=1, resize="nearest")
COLOUR = Preprocessing(height=84, width=84, channels=3, resize="bilinear")


def noise(n: int, settings: Preprocessing, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, settings.height, settings.width, settings.channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (14, 7), (7, 4), (1, 2), (5, 8)])
def test_padding_is_tensorflows_same(height: int, width: int) -> None:
    conv = SameConv(2, 3, stride=2).double()
    x = torch.randn(2, 2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()  # type: ignore[union-attr]
    expected = numpy_reptile.conv(x.numpy(), weight, bias)
    np.testing.assert_allclose(conv(x).detach().numpy(), expected, atol=1e-12)


def test_statistics_are_means_and_deviations_of_the_last_two_stages_each_of_one_length() -> None:
    network = build_network(Residual(widths=(3, 4, 5), summary="statistics"), COLOUR, 2)
    kept: list[np.ndarray] = []
    for name in ("block2", "block3"):
        network.get_submodule(name).register_forward_hook(
            lambda *arguments: kept.append(arguments[-1].detach().numpy())
        )
    found = network.before_head()(noise(3, COLOUR)).detach().numpy()
    parts = (kept[1].mean((2, 3)), kept[1].std((2, 3)), kept[0].mean((2, 3)), kept[0].std((2, 3)))
    whole = np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], 1)
    np.testing.assert_allclose(found, whole * np.sqrt(18 / 4), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.square(found).mean(1), 1, rtol=1e-5)


def test_a_recipes_head_sees_means() -> None:
    with pytest.raises(ConfigError, match="expected mean in a recipe, found statistics"):
        preset("mini-imagenet-residual").replace(backbone=Residual(summary="statistics"))


def test_at_even_sizes_it_is_not_pytorchs_padding_of_one() -> None:
    conv = SameConv(1, 1, stride=2)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    torch_like = torch.nn.functional.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
    assert conv(x).shape == torch_like.shape
    assert not torch.allclose(conv(x), torch_like)


@pytest.mark.parametrize(
    ("backbone", "settings", "features"),
    [(Conv4(), GREY, 256), (Conv4(filters=32, downsample="pool"), COLOUR, 1152)],
)
def test_the_papers_networks_have_the_papers_sizes(backbone: Conv4, settings: Preprocessing, features: int) -> None:
    network = build_network(backbone, settings, 5)
    assert network(noise(2, settings)).shape == (2, 5)
    head = network.get_parameter("head.weight")
    assert head.shape == (5, features)
    sizes = [p.numel() for p in network.parameters()]
    channels = [settings.channels] + [backbone.filters] * 4
    kernels = sum(9 * a * b for a, b in pairwise(channels))
    assert sum(sizes) == kernels + 4 * 3 * backbone.filters + 5 * features + 5


def test_fresh_weights_are_glorot_uniform_and_repeatable() -> None:
    network = build_network(Conv4(), GREY, 5)
    params = random_params(network, 3)
    assert all(torch.equal(tensor, random_params(network, 3)[name]) for name, tensor in params.items())
    assert not torch.equal(params["conv1.weight"], random_params(network, 4)["conv1.weight"])
    limit = (6 / (9 * 64 + 9 * 64)) ** 0.5
    assert params["conv2.weight"].abs().max() == pytest.approx(limit, rel=1e-3)
    assert params["conv2.weight"].std().item() == pytest.approx(limit / 3**0.5, rel=0.02)
    assert not any(tensor.any() for name, tensor in params.items() if name.endswith("bias"))
    assert all((params[f"norm{i}.weight"] == 1).all() for i in range(1, 5))


def test_pixels_enter_as_fractions_after_mean_and_std() -> None:
    settings = COLOUR.replace(mean=(0.5, 0.0, 0.25), std=(0.5, 1.0, 2.0))
    network = build_network(Conv4(filters=2), settings, 2)
    image = torch.full((1, 84, 84, 3), 255, dtype=torch.uint8)
    inputs = network.get_submodule("pixels")(image)
    assert inputs.shape == (1, 3, 84, 84)
    assert inputs[0, :, 0, 0].tolist() == pytest.approx([1.0, 1.0, 0.375])


def test_batch_norm_depends_on_the_batch_only_in_training_mode() -> None:
    network = build_network(Conv4(filters=8), GREY, 5)
    images = noise(6, GREY)
    with torch.no_grad():
        together, alone = network(images)[:1], network(images[:1])
        assert not torch.allclose(together, alone, atol=1e-3)
        network.eval()
        torch.testing.assert_close(network(images)[:1], network(images[:1]))


def test_with_the_statistics_of_a_set_evaluation_mode_repeats_training_mode_on_it() -> None:
    network = build_network(Conv4(filters=8), GREY, 5)
    params, images = random_params(network, 0), noise(6, GREY)
    statistics = norm_statistics(network, params, images)
    with torch.no_grad():
        training = functional_call(network, params, (images,))
        frozen = functional_call(network.eval(), {**params, **statistics}, (images,))
    torch.testing.assert_close(frozen, training, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "none"])
@pytest.mark.parametrize("kind", [Conv4, Mlp])
def test_without_batch_norm_each_picture_is_judged_alone(kind: type[Conv4] | type[Mlp], norm: Norm) -> None:
    backbone = kind(norm=norm)
    assert backbone.judges_alone
    network = build_network(backbone, GREY, 5)
    network.load_state_dict(random_params(network, 0))
    images = noise(6, GREY)
    with torch.no_grad():
        torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)
    assert norm_statistics(network, {}, images) == {}


def test_group_norm_takes_eight_channels_of_one_picture_at_a_time() -> None:
    network = build_network(Conv4(filters=16, norm="group"), GREY, 5)
    with torch.no_grad():
        normalized = network.get_submodule("norm1")(torch.randn(3, 16, 6, 6) * 5 + 2)
    parts = normalized.view(3, 2, 8 * 36)
    torch.testing.assert_close(parts.mean(2), torch.zeros(3, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(parts.var(2, correction=0), torch.ones(3, 2), rtol=0, atol=1e-3)
    for kind in (lambda: Conv4(filters=12, norm="group"), lambda: Mlp(widths=(16, 12), norm="group")):
        with pytest.raises(ConfigError, match="layers of a multiple of 8 channels, found 12"):
            kind()


def test_fully_connected_layers_have_no_bias_before_a_batch_norm() -> None:
    sizes = {name: tuple(p.shape) for name, p in build_network(Mlp(widths=(7, 6)), GREY, 5).named_parameters()}
    assert sizes == {
        "hidden1.weight": (7, GREY.height * GREY.width), "norm1.weight": (7,), "norm1.bias": (7,),
        "hidden2.weight": (6, 7), "norm2.weight": (6,), "norm2.bias": (6,),
        "head.weight": (5, 6), "head.bias": (5,),
    }  # fmt: skip


def test_settings_from_before_there_was_a_choice_of_norm_are_read_and_written_unchanged() -> None:
    assert Conv4.model_validate_json(Conv4().model_dump_json()) == Conv4()
    assert "norm" not in Conv4().model_dump()
    assert Conv4.model_validate_json(Conv4(norm="none").model_dump_json()).norm == "none"


def state_of(head: str, n_way: int) -> tuple[Recipe, torch.nn.Module, LearnerState]:
    recipe = preset("omniglot").replace(head=head)
    network = build_network(recipe.backbone, recipe.preprocessing, n_way)
    params = random_params(network, 0)
    moments = {name: torch.rand_like(tensor) for name, tensor in params.items()}
    return recipe, network, LearnerState(params=params, second_moments=moments, updates=3)


def test_a_dense_head_is_stored_as_it_is_and_serves_its_own_number_of_classes() -> None:
    recipe, network, state = state_of("dense", 5)
    stored = close_head(state, recipe.head)
    assert stored == state
    assert open_head(stored, recipe.head, network) == state
    seven = build_network(recipe.backbone, recipe.preprocessing, 7)
    with pytest.raises(ConfigError, match=r"has 5 classes, the task has 7; .* zero head"):
        open_head(stored, recipe.head, seven)


@pytest.mark.parametrize("n_way", [2, 5, 40])
def test_a_zero_head_serves_any_number_of_classes(n_way: int) -> None:
    recipe, _, state = state_of("zero", 5)
    stored = close_head(state, recipe.head)
    assert not any(name.startswith("head") for name in stored.params)
    assert stored.second_moments["head.weight"].shape == (1, 256)
    opened = open_head(stored, recipe.head, build_network(recipe.backbone, recipe.preprocessing, n_way))
    assert opened.params["head.weight"].shape == (n_way, 256)
    assert not opened.params["head.weight"].any()
    assert not opened.params["head.bias"].any()
    expected = state.second_moments["head.weight"].mean(0)
    assert all(torch.equal(row, expected) for row in opened.second_moments["head.weight"])


def test_opening_and_closing_a_zero_head_changes_nothing() -> None:
    recipe, network, state = state_of("zero", 5)
    stored = close_head(state, recipe.head)
    again = close_head(open_head(stored, recipe.head, network), recipe.head)
    for name, moment in stored.second_moments.items():
        torch.testing.assert_close(again.second_moments[name], moment)
    assert again.params.keys() == stored.params.keys()


@pytest.mark.parametrize("backbone", [Conv4(filters=4), Mlp(widths=(8, 4))])
def test_statistics_of_many_images_are_those_of_all_at_once(
    backbone: Conv4 | Mlp, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network(backbone, GREY, 3).double()
    params = {name: tensor.double() for name, tensor in random_params(network, 0).items()}
    images = noise(50, GREY)
    whole = norm_statistics(network, params, images)
    monkeypatch.setattr("fewshot_sdk.nets.norm_statistics.MANY", 20)
    monkeypatch.setattr("fewshot_sdk.nets.norm_statistics.PART", 7)
    parts = norm_statistics(network, params, images)
    assert whole
    assert parts.keys() == whole.keys()
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-9, atol=1e-12)
    assert network.training
