from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.recipe import Conv4, InnerLoop, Recipe
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.data.tasks import TaskSampler, mini_batches
from fewshot_sdk.engine.heads import close_head, open_head
from fewshot_sdk.engine.inner_loop import fine_tune, one_thread
from fewshot_sdk.errors import ConfigError, TrainingDiverged
from fewshot_sdk.meta.evaluation import evaluate
from fewshot_sdk.meta.outer_loop import reptile_step, step_size_at
from fewshot_sdk.meta.training import MetaStep, meta_train
from fewshot_sdk.nets.network import build_network, random_params
from fewshot_sdk.nets.params import LearnerState, Params
from tests.conftest import drawn_glyphs, tiny_recipe
from tests.engine.test_inner_loop import needs_gpu
from tests.reference import numpy_reptile

NOWHERE = Provenance(command="", seed=0, meta_steps_done=0, data_sha256="", seconds=0, versions={})


def last(steps: Iterator[MetaStep]) -> Initialization:
    *_, end = steps
    return end.initialization


def adapted(recipe: Recipe, sampler: TaskSampler, tasks: range) -> tuple[LearnerState, list[LearnerState]]:
    """The stored start, and the state after the library's own inner loop on each task."""
    network = build_network(recipe.backbone, recipe.preprocessing, sampler.n_way)
    stored = fresh(recipe, 0, NOWHERE).state
    ends = []
    for task in map(sampler.task, tasks):
        batches = mini_batches(len(task.support), recipe.inner.batch_size, recipe.inner.steps, task.seed)
        with one_thread():
            start = open_head(stored, recipe.head, network)
            end, _ = fine_tune(network, start, task.support, task.support_labels, batches, recipe.inner)
        ends.append(close_head(end, recipe.head))
    return stored, ends


def mean(items: list[Params]) -> Params:
    return {name: torch.stack([item[name] for item in items]).mean(0) for name in items[0]}


def average(ends: list[LearnerState]) -> LearnerState:
    return LearnerState(
        params=mean([end.params for end in ends]),
        second_moments=mean([end.second_moments for end in ends]),
        updates=ends[0].updates,
    )


def test_step_size_zero_gives_back_the_initialization(sampler: TaskSampler) -> None:
    recipe = tiny_recipe(meta=tiny_recipe().meta.replace(step_size=0.0))
    found = last(meta_train(recipe, sampler)).state.params
    for name, tensor in fresh(recipe, 0, NOWHERE).state.params.items():
        assert torch.equal(found[name], tensor)


def test_step_size_one_gives_the_mean_of_the_adapted_weights(sampler: TaskSampler) -> None:
    recipe = tiny_recipe(meta=tiny_recipe().meta.replace(meta_steps=1))
    found = last(meta_train(recipe, sampler)).state
    _, (first, second) = adapted(recipe, sampler, range(2))
    for name, tensor in found.params.items():
        assert torch.equal(tensor, (first.params[name] + second.params[name]) / 2)
    for name, tensor in found.second_moments.items():
        torch.testing.assert_close(tensor, (first.second_moments[name] + second.second_moments[name]) / 2)
    assert found.updates == recipe.inner.steps


def test_one_inner_step_of_sgd_is_joint_training(sampler: TaskSampler) -> None:
    """Reptile with k = 1 is SGD on the mean over tasks: phi - step * rate * mean of the gradients."""
    once = InnerLoop(optimizer="sgd", learning_rate=1.0, batch_size=15, steps=1)
    stored, ends = adapted(tiny_recipe(inner=once, adaptation=once), sampler, range(3))
    moved = reptile_step(stored, average(ends), 0.1)
    for name, phi in stored.params.items():
        mean_gradient = torch.stack([phi - end.params[name] for end in ends]).mean(0)
        torch.testing.assert_close(moved.params[name], phi - 0.1 * mean_gradient)


def test_the_step_size_goes_linearly_to_its_end(recipe: Recipe) -> None:
    meta = recipe.meta.replace(meta_steps=4, step_size=1.0, final_step_size=0.2)
    assert [step_size_at(i, meta) for i in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_the_inner_optimizers_memory_crosses_tasks(recipe: Recipe, init: Initialization) -> None:
    assert init.state.updates == recipe.meta.meta_steps * recipe.inner.steps
    assert all((moment >= 0).all() for moment in init.state.second_moments.values())
    assert any(moment.any() for moment in init.state.second_moments.values())


def test_an_independent_numpy_reptile_agrees_in_float64(sampler: TaskSampler) -> None:
    recipe = tiny_recipe(head="dense", inner=InnerLoop(learning_rate=1e-3, batch_size=10, steps=4))
    network = build_network(recipe.backbone, recipe.preprocessing, 5).double()
    params = {name: tensor.double() for name, tensor in random_params(network, 5).items()}
    moments = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
    ours = LearnerState(params=params, second_moments=moments, updates=0)
    theirs = {name: tensor.numpy() for name, tensor in params.items()}
    memory, updates = {name: np.zeros_like(array) for name, array in theirs.items()}, 0
    for outer in range(3):
        drawn = [sampler.task(2 * outer + i) for i in range(2)]
        batches = [mini_batches(15, 10, 4, task.seed) for task in drawn]
        step = 1 - outer / 3
        ends = [
            fine_tune(network, ours, task.support, task.support_labels, batch, recipe.inner)[0]
            for task, batch in zip(drawn, batches, strict=True)
        ]
        ours = reptile_step(ours, average(ends), step)
        plain = [
            (t.support.permute(0, 3, 1, 2).double().numpy() / 255 - 1, t.support_labels.numpy(), batch.numpy())
            for t, batch in zip(drawn, batches, strict=True)
        ]
        theirs, memory, updates = numpy_reptile.outer_step(
            theirs, memory, updates, plain, lr=1e-3, beta2=0.999, adam_eps=1e-8, norm_eps=1e-3, step=step
        )
    assert ours.updates == updates == 12
    for name in theirs:
        if name.startswith("conv") and name.endswith("bias"):
            # Batch norm subtracts a constant again, so this gradient is only rounding, which Adam magnifies
            # differently in each program. Nothing depends on it.
            assert np.abs(ours.params[name].numpy()).max() < 1e-7
            continue
        assert np.abs(ours.params[name].numpy() - theirs[name]).max() < 1e-12, name
        assert np.abs(ours.second_moments[name].numpy() - memory[name]).max() < 1e-12, name
        assert np.abs(theirs[name] - params[name].numpy()).max() > 1e-4, name


def test_the_same_seed_gives_the_same_bytes(recipe: Recipe, sampler: TaskSampler, init: Initialization) -> None:
    again = last(meta_train(recipe, sampler)).files()
    assert again["model.safetensors"] == init.files()["model.safetensors"]
    assert again["inner_state.safetensors"] == init.files()["inner_state.safetensors"]


def test_the_callers_thread_setting_does_not_change_a_bit(
    recipe: Recipe, sampler: TaskSampler, init: Initialization
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = last(meta_train(recipe, sampler))
    finally:
        torch.set_num_threads(before)
    assert again.sha256 == init.sha256


def test_another_seed_gives_other_weights(recipe: Recipe, sampler: TaskSampler, init: Initialization) -> None:
    assert last(meta_train(recipe, replace(sampler, seed=1))).sha256 != init.sha256


@pytest.mark.parametrize("head", ["zero", "dense"])
def test_continuing_from_any_step_gives_the_bits_of_not_stopping(sampler: TaskSampler, head: str) -> None:
    recipe = tiny_recipe(head=head, meta=tiny_recipe().meta.replace(meta_steps=4))
    steps = [step.initialization for step in meta_train(recipe, sampler)]
    for step in steps[:3]:
        again = [s.initialization.sha256 for s in meta_train(recipe, sampler, start=step)]
        assert again == [s.sha256 for s in steps[step.provenance.meta_steps_done :]]


def test_another_training_cannot_be_continued_and_the_difference_is_named(recipe: Recipe, sampler: TaskSampler) -> None:
    step = next(meta_train(recipe, sampler)).initialization
    longer = recipe.replace(meta=recipe.meta.replace(meta_steps=9))
    with pytest.raises(ConfigError, match=r"meta\.meta_steps was 2, now 9; resume it with the same settings"):
        next(meta_train(longer, sampler, start=step))
    with pytest.raises(ConfigError, match="seed was 0, now 8"):
        next(meta_train(recipe, replace(sampler, seed=8), start=step))
    with pytest.raises(ConfigError, match="data_sha256 was"):
        next(meta_train(recipe, replace(sampler, data=sampler.data.subset(range(9))), start=step))
    other = step.provenance.replace(versions={**step.provenance.versions, "torch": "1.0"})
    with pytest.raises(ConfigError, match=r"versions\.torch was 1\.0, now"):
        next(meta_train(recipe, sampler, start=replace(step, provenance=other)))


def test_there_is_one_event_for_each_outer_step(recipe: Recipe, sampler: TaskSampler) -> None:
    steps = list(meta_train(recipe, sampler, command="how"))
    assert [step.done for step in steps] == [1, 2]
    assert [step.initialization.provenance.meta_steps_done for step in steps] == [1, 2]
    assert steps[0].initialization.provenance.command == "how"


def test_a_loss_that_is_no_number_stops_with_step_and_task(recipe: Recipe, sampler: TaskSampler) -> None:
    sgd = {"learning_rate": 1e38, "optimizer": "sgd"}
    wild = recipe.replace(inner=recipe.inner.replace(**sgd), adaptation=recipe.adaptation.replace(**sgd))
    with pytest.raises(TrainingDiverged, match=r"task \d+ is not finite at outer step 1; .* lower inner learning rate"):
        list(meta_train(wild, sampler))


def test_meta_training_makes_new_tasks_easier() -> None:
    small = tiny_recipe()
    rate = {"learning_rate": 1e-2}
    recipe = small.replace(
        backbone=Conv4(filters=16),
        inner=small.inner.replace(**rate),
        adaptation=small.adaptation.replace(steps=5, **rate),
        meta=small.meta.replace(meta_steps=150, k_shot=10),
    )
    characters = drawn_glyphs(recipe, 200)
    known = TaskSampler(data=characters.subset(range(150)), n_way=5, k_shot=10)
    new = TaskSampler(data=characters.subset(range(150, 200)), n_way=5, k_shot=1, n_query=1, seed=99)
    trained = evaluate(last(meta_train(recipe, known)), new, n_tasks=60, mode="transductive")
    untrained = evaluate(fresh(recipe, 0, NOWHERE), new, n_tasks=60, mode="transductive")
    assert trained.accuracy > untrained.accuracy + 0.05


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("head", ["zero", "dense"])
def test_training_on_a_device_is_the_same_training(
    sampler: TaskSampler, head: Literal["zero", "dense"], name: str
) -> None:
    """In float32 with sums in another order, so with an inner rate at which rounding does not grow."""
    slow = InnerLoop(optimizer="sgd", learning_rate=1e-2, batch_size=10, steps=3)
    recipe = tiny_recipe(head=head, inner=slow, adaptation=slow)
    here, there = (last(meta_train(recipe, sampler, device=d)) for d in (None, torch.device(name)))
    for key, tensor in here.state.params.items():
        torch.testing.assert_close(there.state.params[key], tensor, rtol=1e-4, atol=1e-5)
    assert there.provenance.versions["inner loop"].startswith("torch, ")
    with pytest.raises(ConfigError, match="inner loop was torch, "):
        next(meta_train(recipe, sampler, start=there))
