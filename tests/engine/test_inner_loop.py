from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from fewshot_sdk.config.recipe import InnerLoop, Recipe
from fewshot_sdk.data.tasks import Task, TaskSampler, mini_batches
from fewshot_sdk.engine.inner_loop import fine_tune, fine_tune_together, loss_and_grads, one_thread, update
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.nets.network import Network, build_network, random_params
from fewshot_sdk.nets.params import LearnerState, flatten

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def task(sampler: TaskSampler) -> Task:
    return sampler.task(0)


def start_of(recipe: Recipe) -> tuple[Network, LearnerState]:
    network = build_network(recipe.backbone, recipe.preprocessing, 5).double()
    params = {name: tensor.double() for name, tensor in random_params(network, 1).items()}
    moments = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
    return network, LearnerState(params=params, second_moments=moments, updates=0)


def test_one_sgd_step_is_sgd_on_the_mean_loss(recipe: Recipe, task: Task) -> None:
    network, start = start_of(recipe)
    inner = InnerLoop(optimizer="sgd", learning_rate=0.1, batch_size=15, steps=1)
    everything = torch.arange(15).unsqueeze(0)
    end, losses = fine_tune(network, start, task.support, task.support_labels, everything, inner)

    network.load_state_dict(start.params, strict=False)
    loss = F.cross_entropy(network(task.support), task.support_labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert losses.item() == loss.item()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(end.params[name], parameter.detach() - 0.1 * parameter.grad, rtol=1e-12, atol=1e-15)


def test_adam_is_torch_adam_with_beta1_zero_also_when_it_continues(recipe: Recipe, task: Task) -> None:
    network, start = start_of(recipe)
    inner = InnerLoop(learning_rate=0.01, batch_size=10, steps=7)
    batches = mini_batches(15, 10, 7, task.seed)
    halfway, _ = fine_tune(network, start, task.support, task.support_labels, batches[:4], inner)
    end, _ = fine_tune(network, halfway, task.support, task.support_labels, batches[4:], inner)

    network.load_state_dict(start.params, strict=False)
    adam = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.0, 0.999), eps=1e-8)
    for batch in batches:
        adam.zero_grad()
        F.cross_entropy(network(task.support[batch]), task.support_labels[batch]).backward()  # type: ignore[no-untyped-call]
        adam.step()
    assert end.updates == 7
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(end.params[name], parameter.detach(), rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(end.second_moments[name], adam.state[parameter]["exp_avg_sq"], rtol=1e-9, atol=1e-20)


def test_a_loss_divisor_makes_sums_of_means(recipe: Recipe, task: Task) -> None:
    network, start = start_of(recipe)
    batches = mini_batches(15, 5, 3, task.seed)
    sums = InnerLoop(optimizer="sgd", learning_rate=0.1, batch_size=5, steps=3, loss_divisor=1)
    means = InnerLoop(optimizer="sgd", learning_rate=0.5, batch_size=5, steps=3)
    found, losses = fine_tune(network, start, task.support, task.support_labels, batches, sums)
    expected, their_losses = fine_tune(network, start, task.support, task.support_labels, batches, means)
    for name, tensor in expected.params.items():
        torch.testing.assert_close(found.params[name], tensor, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(losses, their_losses)  # reported as means


def test_adam_on_sums_is_adam_whose_moments_are_of_smaller_gradients(recipe: Recipe, task: Task) -> None:
    network, start = start_of(recipe)
    moments = {name: torch.full_like(tensor, 1e-3) for name, tensor in start.params.items()}
    batches = mini_batches(15, 5, 3, task.seed)
    means = InnerLoop(learning_rate=0.01, batch_size=5, steps=3, epsilon=1e-300)
    start = replace(start, second_moments=moments, updates=9000)
    twice = replace(start, second_moments={name: 4 * tensor for name, tensor in moments.items()})
    found, _ = fine_tune(network, start, task.support, task.support_labels, batches, means.replace(loss_divisor=10))
    expected, _ = fine_tune(network, twice, task.support, task.support_labels, batches, means)
    for name, tensor in expected.params.items():
        torch.testing.assert_close(found.params[name], tensor, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(4 * found.second_moments[name], expected.second_moments[name])


def test_meta_training_takes_no_loss_divisor(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match="loss_divisor is for adaptation"):
        recipe.replace(inner=recipe.inner.replace(loss_divisor=10))


def test_no_step_gives_back_the_start(recipe: Recipe, task: Task) -> None:
    network, start = start_of(recipe)
    inner = InnerLoop(learning_rate=0.01, batch_size=5, steps=0)
    end, losses = fine_tune(network, start, task.support, task.support_labels, mini_batches(15, 5, 0, (0,)), inner)
    assert len(losses) == 0
    assert end.updates == start.updates
    assert all(torch.equal(end.params[name], start.params[name]) for name in start.params)


def test_neither_the_start_nor_the_network_is_changed(recipe: Recipe, task: Task) -> None:
    network, start = start_of(recipe)
    kept = {name: tensor.clone() for name, tensor in start.params.items()}
    held = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    inner = InnerLoop(learning_rate=0.01, batch_size=5, steps=3)
    fine_tune(network, start, task.support, task.support_labels, mini_batches(15, 5, 3, (0,)), inner)
    assert all(torch.equal(start.params[name], kept[name]) for name in kept)
    assert all(torch.equal(network.state_dict()[name], held[name]) for name in held)


def test_the_losses_are_those_before_each_step(recipe: Recipe, task: Task) -> None:
    network, start = start_of(recipe)
    inner = InnerLoop(learning_rate=0.01, batch_size=5, steps=2)
    batches = mini_batches(15, 5, 2, (0,))
    end, losses = fine_tune(network, start, task.support, task.support_labels, batches, inner)
    state = start
    for step, batch in enumerate(batches):
        loss, grads = loss_and_grads(network, state.params, task.support[batch], task.support_labels[batch])
        assert losses[step] == pytest.approx(float(loss), rel=1e-9)
        state = update(state, grads, inner)
    assert state.updates == end.updates


def test_one_thread_is_given_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    inside = []

    def fail() -> None:
        with one_thread():
            inside.append(torch.get_num_threads())
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert inside == [1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_tasks_side_by_side_are_tasks_one_by_one(
    sampler: TaskSampler, recipe: Recipe, optimizer: Literal["adam", "sgd"], device: str
) -> None:
    network, start = start_of(recipe)
    inner = InnerLoop(optimizer=optimizer, learning_rate=0.01, batch_size=4, steps=5, loss_divisor=8)
    drawn = [sampler.task(i) for i in range(3)]
    batches = torch.stack([mini_batches(15, 4, 5, task.seed) for task in drawn])
    alone = [
        fine_tune(network, start, task.support, task.support_labels, rows, inner)
        for task, rows in zip(drawn, batches, strict=True)
    ]
    images, labels = (torch.stack([getattr(t, name) for t in drawn]) for name in ("support", "support_labels"))
    where = torch.device(device)
    ends, losses = fine_tune_together(network.to(where), start, images, labels, batches, inner, where)
    for (state, one), end, many in zip(alone, ends, losses, strict=True):
        torch.testing.assert_close(many.double(), one, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(end, flatten(state), rtol=1e-6, atol=1e-7)
