from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_sdk import adapt, export_onnx
from fewshot_sdk.config import presets
from fewshot_sdk.config.presets import pretrained_for
from fewshot_sdk.config.recipe import Conv4, Mlp, Pretraining, Recipe, Residual
from fewshot_sdk.data.augmentation import photographed, redrawn
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine.features import frozen_features
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.errors import ConfigError, TrainingDiverged
from fewshot_sdk.meta.evaluation import accuracies, evaluate
from fewshot_sdk.meta.pretraining import (
    Epoch,
    load_pretraining,
    pretrain,
    pretrained,
    rate_at,
    save_pretraining,
)
from fewshot_sdk.meta.training import origin
from fewshot_sdk.nets.conv4 import LENGTH
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.nets.residual import draw, folded
from tests.conftest import draw_folder, drawn_glyphs, tiny_recipe

SMALL = Pretraining(epochs=4, batch_size=16)


def small_recipe(settings: Pretraining = SMALL) -> Recipe:
    few = tiny_recipe().adaptation.replace(steps=3)
    return tiny_recipe(backbone=Residual(widths=(8, 16)), pretraining=settings, adaptation=few)


@pytest.fixture(scope="module")
def classes(_own_cache: None) -> ClassImages:
    return drawn_glyphs(small_recipe(), 12)


@pytest.fixture(scope="module")
def epochs(classes: ClassImages) -> list[Epoch]:
    return list(pretrain(small_recipe(), classes, seed=3, threads=1))


def same(left: Epoch, right: Epoch) -> bool:
    return all(torch.equal(tensor, right.tensors[name]) for name, tensor in left.tensors.items())


def test_it_learns_to_tell_the_training_classes_apart(epochs: list[Epoch]) -> None:
    assert [epoch.done for epoch in epochs] == [1, 2, 3, 4]
    assert epochs[-1].loss < epochs[0].loss - 0.1


def test_the_same_seed_gives_the_same_bits_also_after_an_interruption(
    epochs: list[Epoch], classes: ClassImages, tmp_path: Path
) -> None:
    path = save_pretraining(epochs[1], small_recipe(), 3, classes, tmp_path / "half")
    half = load_pretraining(path, small_recipe(), 3, classes)
    *_, end = pretrain(small_recipe(), classes, seed=3, threads=1, start=half)
    assert same(end, epochs[-1])
    first = next(pretrain(small_recipe(), classes, seed=4, threads=1))
    assert not same(first, epochs[0])


def test_a_checkpoint_of_another_training_is_refused(epochs: list[Epoch], classes: ClassImages, tmp_path: Path) -> None:
    path = save_pretraining(epochs[0], small_recipe(), 3, classes, tmp_path / "one")
    with pytest.raises(ConfigError, match="with other settings: seed was 3, now 4; resume it"):
        load_pretraining(path, small_recipe(), 4, classes)
    with pytest.raises(ConfigError, match=r"pretraining\.epochs was \d+, now 5; resume it"):
        load_pretraining(path, small_recipe(SMALL.replace(epochs=5)), 3, classes)


def test_folding_changes_no_answer() -> None:
    recipe = small_recipe()
    network = build_network(recipe.backbone, recipe.preprocessing, 4, norm=True)
    draw(network, 0)
    images = torch.randint(0, 256, (20, 16, 16, 1), dtype=torch.uint8)
    for _ in range(20):
        network(images)  # the norms' running statistics move
    plain = build_network(recipe.backbone, recipe.preprocessing, 4)
    plain.load_state_dict(folded(network.eval()))
    with torch.no_grad():
        expected, found = frozen_features(network, images), frozen_features(plain, images)
        assert found.square().mean(1) == pytest.approx(torch.ones(20).numpy(), rel=1e-5)
        lengths = expected.square().mean(1, keepdim=True).sqrt()
        torch.testing.assert_close(found * lengths, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(frozen_features(plain, images[:1]), found[:1], rtol=1e-4, atol=1e-4)


def test_what_is_pretrained_is_adapted_evaluated_and_exported(
    epochs: list[Epoch], classes: ClassImages, tmp_path: Path
) -> None:
    tasks = TaskSampler(data=classes, n_way=5, k_shot=3)
    init = pretrained(small_recipe(), epochs[-1], classes.n_classes, origin(tasks, "test"))
    few = TaskSampler(data=classes, n_way=5, k_shot=3, n_query=2)
    modes = [evaluate(init, few, n_tasks=5, mode=m).accuracy for m in ("transductive", "inductive", "frozen")]
    assert modes[0] == modes[1] == modes[2]  # no statistics to share
    with one_thread():
        classifier = adapt(init, draw_folder(tmp_path / "drawings"))
    assert export_onnx(classifier, tmp_path / "m.onnx").metadata.parity.max_difference < 1e-5


def test_batch_norms_are_pretrained_too_and_stay_in_the_network(classes: ClassImages, tmp_path: Path) -> None:
    recipe = tiny_recipe(pretraining=SMALL.replace(pictures="drawings"))
    first, *_, last = pretrain(recipe, classes, seed=3, threads=1)
    assert last.loss < first.loss - 0.1
    half = load_pretraining(save_pretraining(first, recipe, 3, classes, tmp_path / "one"), recipe, 3, classes)
    *_, again = pretrain(recipe, classes, seed=3, threads=1, start=half)
    assert same(again, last)
    init = pretrained(recipe, last, classes.n_classes, origin(TaskSampler(data=classes, n_way=5, k_shot=3), "test"))
    assert torch.equal(init.state.params["norm2.weight"], last.tensors["norm2.weight"])
    assert init.state.params["norm4.weight"].square().mean().sqrt() == pytest.approx(LENGTH)
    few = TaskSampler(data=classes, n_way=5, k_shot=1, n_query=2)
    raw = pretrained(recipe, first, classes.n_classes, init.provenance)
    known, begun = (
        np.mean([right["transductive"] for right in accuracies(i, few, n_tasks=40, modes=["transductive"],
        baseline="prototypes")]) for i in (init, raw)
    )  # fmt: skip
    assert known > begun > 0.3


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [rate_at(step, 100, SMALL) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[10] == pytest.approx(0.1)
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-4


def test_augmented_pictures_are_in_range_and_drawn_from_the_generator() -> None:
    images = torch.randint(0, 256, (50, 12, 10, 3), dtype=torch.uint8)
    first, again = (photographed(images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (50, 3, 12, 10)
    assert first.min() >= 0
    assert first.max() <= 1
    flat = torch.full((40, 8, 8, 3), 128, dtype=torch.uint8)
    shades = photographed(flat, torch.Generator().manual_seed(1)).mean((1, 2, 3)) * 255 / 128
    assert 0.55 < shades.min() < 0.75
    assert 1.25 < shades.max() < 1.45


def test_redrawn_pictures_keep_their_paper_and_are_drawn_from_the_generator() -> None:
    images = torch.full((50, 28, 28, 1), 255, dtype=torch.uint8)
    assert torch.equal(redrawn(images, torch.Generator()), torch.ones(50, 1, 28, 28))
    images[:, 13:15, 13:15] = 0
    first, again = (redrawn(images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.min() >= 0
    assert first.max() <= 1
    ink = 1 - first
    assert ink.sum((1, 2, 3)).mean() == pytest.approx(4, rel=0.1)
    column = (ink * torch.arange(28)).sum((1, 2, 3)) / ink.sum((1, 2, 3)) - 13.5
    assert 0.5 < column.abs().max() < 2
    assert column.std() > 0.3


def test_what_cannot_be_pretrained_is_told(classes: ClassImages) -> None:
    with pytest.raises(ConfigError, match="expected a conv4 network with batch norm, found norm group"):
        small_recipe().replace(backbone=Conv4(filters=8, norm="group"))
    with pytest.raises(ConfigError, match="expected a conv4 or residual network, found mlp"):
        small_recipe().replace(backbone=Mlp())
    with pytest.raises(ConfigError, match="is not pre-trained"):
        next(pretrain(tiny_recipe(), classes, seed=0, threads=1))
    with pytest.raises(TrainingDiverged, match="not finite in epoch 1"):
        list(pretrain(small_recipe(SMALL.replace(learning_rate=1e30)), classes, seed=0, threads=1))


def test_the_presets_own_pretraining_is_kept_but_for_its_length() -> None:
    photo, paper = presets.preset("mini-imagenet-residual"), presets.preset("omniglot-5way")
    assert pretrained_for(photo, 3).pretraining == Pretraining(epochs=3)
    assert pretrained_for(photo, 0).pretraining is None
    assert pretrained_for(paper, 3).pretraining == Pretraining(epochs=3, batch_size=128, pictures="drawings")
    assert pretrained_for(presets.preset("mini-imagenet-5way"), 3).pretraining == Pretraining(epochs=3)


@pytest.mark.parametrize("there", [True, False])
def test_products_are_of_bfloat16_where_the_processor_has_them(
    there: bool, classes: ClassImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    class Noted(torch.autocast):
        def __init__(self, device: str, *, dtype: torch.dtype, enabled: bool) -> None:
            asked.append(enabled)
            super().__init__(device, dtype=dtype, enabled=False)

    monkeypatch.setattr("fewshot_sdk.meta.pretraining.multiplies_bfloat16", lambda: there)
    monkeypatch.setattr(torch, "autocast", Noted)
    next(pretrain(tiny_recipe(pretraining=SMALL), classes, seed=0, threads=1))
    assert set(asked) == {there}
