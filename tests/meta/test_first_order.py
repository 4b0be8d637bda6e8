from __future__ import annotations

from typing import Literal

import pytest
import torch

from fewshot_sdk.algorithms import Algorithm
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop, Recipe
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine import inner_loop
from fewshot_sdk.engine.inner_loop import FineTuner, loss_and_grads
from fewshot_sdk.errors import ConfigError, DeviceError
from fewshot_sdk.meta.first_order import split_batches, target
from fewshot_sdk.meta.training import meta_train
from fewshot_sdk.nets.network import build_network, random_params
from fewshot_sdk.nets.params import LearnerState
from tests.conftest import tiny_recipe

SGD = InnerLoop(optimizer="sgd", learning_rate=0.1, batch_size=4, steps=3)


def fomaml(tail_shots: int = 0, inner: InnerLoop = SGD) -> Recipe:
    meta = tiny_recipe().meta.replace(algorithm="fomaml", tail_shots=tail_shots)
    return tiny_recipe(inner=inner, adaptation=inner, meta=meta)


def tuner_of(recipe: Recipe, dtype: torch.dtype = torch.float64) -> tuple[FineTuner, LearnerState]:
    network = build_network(recipe.backbone, recipe.preprocessing, 5).to(dtype)
    params = {name: tensor.to(dtype) for name, tensor in random_params(network, 1).items()}
    moments = {name: torch.full_like(tensor, 0.01) for name, tensor in params.items()}
    start = LearnerState(params=params, second_moments=moments, updates=3)
    return FineTuner(network, start, recipe.inner), start


@pytest.mark.parametrize("tail_shots", [0, 1])
def test_fomaml_moves_by_the_last_gradient_alone(sampler: TaskSampler, tail_shots: int) -> None:
    recipe, task = fomaml(tail_shots), sampler.task(0)
    tuner, start = tuner_of(recipe)
    first, (last,) = split_batches(task, recipe.inner, recipe.meta)
    middle, _ = tuner.tune(task.support, task.support_labels, first)
    network = build_network(recipe.backbone, recipe.preprocessing, 5).double()
    there = tuner.state(middle, 0).params
    loss, grads = loss_and_grads(network, there, task.support[last], task.support_labels[last])
    found, losses = target(tuner, task, recipe.inner, recipe.meta)
    for name, tensor in tuner.state(found, 0).params.items():
        torch.testing.assert_close(tensor, start.params[name] - 0.1 * grads[name])
    assert len(losses) == 3
    assert losses[-1].item() == pytest.approx(loss.item())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_one_inner_step_fomaml_is_reptile(sampler: TaskSampler, optimizer: str, dtype: torch.dtype) -> None:
    once = SGD.replace(optimizer=optimizer, steps=1)
    recipe, task = fomaml(inner=once), sampler.task(0)
    tuner, _ = tuner_of(recipe, dtype)
    plain = recipe.replace(meta=recipe.meta.replace(algorithm="reptile"))
    torch.testing.assert_close(
        target(tuner, task, recipe.inner, recipe.meta)[0], target(tuner, task, plain.inner, plain.meta)[0]
    )


def test_the_second_moments_are_those_after_all_steps(sampler: TaskSampler) -> None:
    recipe, task = fomaml(inner=SGD.replace(optimizer="adam", learning_rate=1e-3)), sampler.task(0)
    tuner, _ = tuner_of(recipe)
    plain = recipe.replace(meta=recipe.meta.replace(algorithm="reptile"))
    ours, reptile = (tuner.state(target(tuner, task, r.inner, r.meta)[0], 0).second_moments for r in (recipe, plain))
    for name, moment in reptile.items():
        torch.testing.assert_close(ours[name], moment)


def test_a_separate_tail_shares_no_image_with_the_steps_before(sampler: TaskSampler) -> None:
    task = sampler.task(0)
    first, last = split_batches(task, SGD, fomaml(tail_shots=1).meta)
    assert set(first.flatten().tolist()).isdisjoint(last.flatten().tolist())
    assert sorted(task.support_labels[last[0]].tolist()) == list(range(5))
    shared, tail = split_batches(task, SGD, fomaml().meta)
    assert shared.shape == (2, 4)
    assert tail.shape == (1, 4)


def test_fomaml_trains_to_the_same_bits_each_time(sampler: TaskSampler) -> None:
    ends = [list(meta_train(fomaml(tail_shots=1), sampler))[-1].initialization for _ in range(2)]
    assert ends[0].files()["model.safetensors"] == ends[1].files()["model.safetensors"]


@pytest.mark.parametrize(("algorithm", "tail_shots"), [("fomaml", 3), ("reptile", 1)])
def test_a_tail_that_does_not_fit_is_refused(algorithm: Literal["fomaml", "reptile"], tail_shots: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"fewer than k_shot 3, and 0 with reptile, found {tail_shots} with {algorithm}"
    ):
        MetaLoop(meta_steps=1, tasks_per_step=1, n_way=5, k_shot=3, algorithm=algorithm, tail_shots=tail_shots)


@pytest.mark.parametrize("algorithm", ["reptile", "fomaml", "maml"])
def test_replacement_is_another_training_and_is_told(sampler: TaskSampler, algorithm: Algorithm) -> None:
    meta = tiny_recipe().meta.replace(algorithm=algorithm)
    recipe = tiny_recipe(inner=SGD, adaptation=SGD, meta=meta)
    redrawn = recipe.replace(meta=recipe.meta.replace(replacement=True))
    ends = [list(meta_train(each, sampler))[-1].initialization.files() for each in (recipe, redrawn)]
    assert ends[0]["model.safetensors"] != ends[1]["model.safetensors"]
    assert ["mini-batches with replacement" in end["README.md"].decode() for end in ends] == [False, True]
    assert ["replacement" in end["config.json"].decode() for end in ends] == [False, True]


def test_a_prototype_has_no_mini_batches_to_draw() -> None:
    meta = preset("omniglot-protonet").meta
    with pytest.raises(ConfigError, match="replacement: protonet draws no mini-batches"):
        meta.replace(replacement=True)


def test_side_by_side_is_for_reptile(sampler: TaskSampler) -> None:
    with pytest.raises(ConfigError, match="fomaml has no side-by-side form"):
        next(meta_train(fomaml(), sampler, device=torch.device("cpu")))


def test_meta_training_side_by_side_ends_where_one_task_after_the_other_does(sampler: TaskSampler) -> None:
    recipe = tiny_recipe()
    sgd = {"optimizer": "sgd", "precision": "float32"}  # Adam makes steps of rounding errors where a gradient is 0
    recipe = recipe.replace(inner=recipe.inner.replace(**sgd), adaptation=recipe.adaptation.replace(**sgd))
    serial, together = (
        list(meta_train(recipe, sampler, device=device))[-1].initialization.state
        for device in (None, torch.device("cpu"))
    )
    assert serial.updates == together.updates
    torch.testing.assert_close(together.params, serial.params, rtol=1e-3, atol=1e-5)


def test_a_gpu_that_runs_out_of_memory_ends_the_training_with_a_sentence(
    sampler: TaskSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(inner_loop, "fine_tune_together", full)
    with pytest.raises(DeviceError, match=r"did not suffice for outer step 1 \(CUDA out of memory"):
        next(meta_train(tiny_recipe(), sampler, device=torch.device("cpu")))
