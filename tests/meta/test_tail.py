from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from fewshot_sdk import load, save
from fewshot_sdk.artifacts.initialization import Initialization, from_weights
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.recipe import Conv4, EfficientNet, Recipe
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.engine.heads import prototypes
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.meta.tail import FROZEN, Scaled, meta_train_tail
from fewshot_sdk.meta.training import MetaStep
from fewshot_sdk.nets.network import build_network
from tests.conftest import tiny_recipe
from tests.data.test_domains import domains
from tests.nets.test_efficientnet import PHOTO, even_weights

ALGORITHMS = ("protonet", "reptile")
Name = Literal["protonet", "reptile"]


def recipe_of(algorithm: Name, backbone: EfficientNet | None = None, meta_steps: int = 2) -> Recipe:
    recipe = tiny_recipe(preprocessing=PHOTO, backbone=backbone or EfficientNet(summary="statistics"))
    meta = recipe.meta.replace(meta_steps=meta_steps, n_way=3, k_shot=2)
    sgd = {"optimizer": "sgd", "learning_rate": 0.01, "precision": "float32"}
    inner = recipe.inner.replace(**sgd, steps=2, batch_size=6)
    recipe = recipe.replace(meta=meta, inner=inner, adaptation=recipe.adaptation.replace(**sgd))
    if algorithm == "reptile":
        return recipe
    made = with_algorithm(recipe, "protonet")
    return made.replace(meta=made.meta.replace(tail_shots=1, step_size=1e-3))


def start_of(recipe: Recipe, init: Initialization) -> Initialization:
    network = build_network(recipe.backbone, recipe.preprocessing, 3)
    return from_weights(recipe, even_weights(network), init.provenance)


def trained(recipe: Recipe, start: Initialization, workers: Workers | None = None) -> list[MetaStep]:
    tasks = domains(n_way=3, k_shot=2, seed=4)
    return list(meta_train_tail(start, tasks, recipe=recipe, command="the test", workers=workers))


def weights_of_each_step(workers: Workers) -> list[str]:
    """Their hashes, in a worker or alone; tests/engine/test_workers.py compares them."""
    recipe = recipe_of("protonet")
    recipe = recipe.replace(meta=recipe.meta.replace(tasks_per_step=3))
    made = Provenance(command="", seed=0, meta_steps_done=0, data_sha256="0" * 64, seconds=0, versions={})
    start = from_weights(recipe, even_weights(build_network(recipe.backbone, PHOTO, 3)), made)
    return [step.initialization.sha256 for step in trained(recipe, start, workers)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_only_the_last_stages_move_and_the_same_arguments_give_the_same_bits(
    init: Initialization, algorithm: Name
) -> None:
    recipe = recipe_of(algorithm)
    start = start_of(recipe, init)
    held = {name: tensor.clone() for name, tensor in start.state.params.items()}
    first, last = trained(recipe, start)
    (again, _) = trained(recipe, start)
    assert (first.done, last.done, last.meta_steps) == (1, 2, 2)
    for step in (first, last):
        params = step.initialization.state.params
        assert params.keys() == held.keys()
        moved = {name.partition(".")[0] for name, tensor in params.items() if not torch.equal(tensor, held[name])}
        assert moved == {"stage5", "stage6", "stage7", "top"}
        assert not moved & set(FROZEN)
    assert all(torch.equal(start.state.params[name], tensor) for name, tensor in held.items())
    assert again.initialization.files()["model.safetensors"] == first.initialization.files()["model.safetensors"]
    assert again.loss == first.loss


def test_each_task_of_reptile_starts_from_rows_of_zeros(init: Initialization) -> None:
    """As when the initialization is used: the first loss of each outer step is that of no knowledge."""
    recipe = recipe_of("reptile")
    recipe = recipe.replace(inner=recipe.inner.replace(steps=1))
    for step in trained(recipe, start_of(recipe, init)):
        assert step.loss == pytest.approx(math.log(3), abs=1e-5)


def test_what_it_makes_is_an_initialization_of_the_recipe_that_can_be_saved(
    init: Initialization, tmp_path: object
) -> None:
    recipe = recipe_of("protonet", meta_steps=1)
    start = start_of(recipe_of("reptile", EfficientNet()), init)  # weights from another recipe, by another summary
    (step,) = trained(recipe, start)
    made = step.initialization
    assert made.recipe == recipe
    record = made.provenance
    assert (record.command, record.seed, record.meta_steps_done) == ("the test", 4, 1)
    assert record.data_sha256 == domains(n_way=3, k_shot=2, seed=4).digest
    assert load(save(made, f"{tmp_path}/made")).files() == made.files()


def test_the_loss_of_the_same_tasks_descends(init: Initialization) -> None:
    """Outer steps on one task again and again."""
    recipe = recipe_of("protonet", meta_steps=6)
    recipe = recipe.replace(meta=recipe.meta.replace(tasks_per_step=1, step_size=3e-4, final_step_size=3e-4))
    tasks = domains(n_way=3, k_shot=2, shares={"colour": 1.0})
    one = tasks.task(0)
    object.__setattr__(tasks, "task", lambda _: one)
    steps = list(meta_train_tail(start_of(recipe, init), tasks, recipe=recipe))
    losses = [step.loss for step in steps]
    assert losses[-1] < losses[0]


def test_lengths_are_such_that_squared_distances_are_the_logits_of_class_means() -> None:
    backbone = EfficientNet()
    network = build_network(backbone, PHOTO, 2)
    network.load_state_dict(even_weights(network))
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 0, 1, 1])
    from fewshot_sdk.config.backbones import spread

    with torch.no_grad():
        plain = network.before_head()(images)
        scaled = Scaled(network.before_head(), spread(plain.shape[1], backbone.kind) ** -0.5)(images)
    head = prototypes(plain, targets, 2, backbone.kind)
    logits = (plain @ head["head.weight"].T + head["head.bias"]).double()
    means = torch.stack([scaled[targets == label].mean(0) for label in range(2)]).double()
    distances = -torch.cdist(scaled.double(), means).square()
    torch.testing.assert_close(logits.log_softmax(1), distances.log_softmax(1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backbone", [Conv4(filters=4), EfficientNet(variant="lite2")])
def test_another_network_is_refused(init: Initialization, backbone: Conv4 | EfficientNet) -> None:
    recipe = recipe_of("protonet")
    other = recipe.replace(backbone=backbone)
    start = Initialization(recipe=other, state=init.state, provenance=init.provenance)
    with pytest.raises(ConfigError, match=r"start: expected the network of the recipe, EfficientNet-Lite0, .* found"):
        trained(recipe, start)
    with pytest.raises(ConfigError, match=r"start: expected the network of the recipe, .* found EfficientNet-Lite0"):
        trained(other, Initialization(recipe=recipe, state=init.state, provenance=init.provenance))
