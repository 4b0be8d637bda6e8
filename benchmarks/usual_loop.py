"""The usual loop, the baseline of ours: a deep copy of the network, a new Adam, eager steps with all threads."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from fewshot_sdk.config.recipe import InnerLoop, Recipe
from fewshot_sdk.data.tasks import Task, TaskSampler, mini_batches
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.nets.params import LearnerState

Stream = Callable[[Recipe], TaskSampler]


def usual_adaptation(
    network: nn.Module, start: LearnerState, task: Task, inner: InnerLoop
) -> tuple[nn.Module, torch.optim.Adam]:
    """A copy of the network after the inner loop on one task, and its Adam, as it is usually written."""
    learner = copy.deepcopy(network)
    named = dict(learner.named_parameters())
    adam = torch.optim.Adam(named.values(), lr=inner.learning_rate, betas=(0.0, inner.beta2), eps=inner.epsilon)
    for name, parameter in named.items():
        moment = start.second_moments[name].clone()
        step = torch.tensor(float(start.updates))
        adam.state[parameter] = {"step": step, "exp_avg": torch.zeros_like(moment), "exp_avg_sq": moment}
    for batch in mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed):
        adam.zero_grad()
        F.cross_entropy(learner(task.support[batch]), task.support_labels[batch]).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return learner, adam


def usual_step(
    recipe: Recipe, tasks: TaskSampler, state: LearnerState, done: int, dtype: torch.dtype = torch.float32
) -> LearnerState:
    """One outer step as it is usually written.

    It also runs in float64, for comparing weights: in float32, rounding that moves an activation across the kink of a
    ReLU changes a weight by some 0.001, in either loop.
    """
    meta, inner = recipe.meta, recipe.inner
    network = build_network(recipe.backbone, recipe.preprocessing, meta.n_way).to(dtype)
    state = LearnerState(
        params={name: tensor.to(dtype) for name, tensor in state.params.items()},
        second_moments={name: tensor.to(dtype) for name, tensor in state.second_moments.items()},
        updates=state.updates,
    )
    network.load_state_dict(state.params, strict=False)
    sums = {name: torch.zeros_like(tensor) for name, tensor in state.params.items()}
    squares = {name: torch.zeros_like(tensor) for name, tensor in state.params.items()}
    for index in range(done * meta.tasks_per_step, (done + 1) * meta.tasks_per_step):
        task = tasks.task(index)
        learner, adam = usual_adaptation(network, state, task, inner)
        for name, parameter in learner.named_parameters():
            sums[name] += parameter.detach() / meta.tasks_per_step
            squares[name] += adam.state[parameter]["exp_avg_sq"] / meta.tasks_per_step
    step_size = 1 - done / meta.meta_steps
    moved = {name: tensor.lerp(sums[name], step_size) for name, tensor in state.params.items()}
    return LearnerState(params=moved, second_moments=squares, updates=state.updates + inner.steps)


def usual_seconds(recipe: Recipe, stream: Stream, start: LearnerState, threads: int) -> Callable[[int], float]:
    """A function that takes the next n outer steps and returns their seconds.

    Run it in its own process, as is usual for the loop: ours makes the allocator keep memory.
    """
    torch.set_num_threads(threads)
    tasks, state, done = stream(recipe), start, 0

    def seconds(steps: int) -> float:
        nonlocal state, done
        began = time.perf_counter()
        for index in range(done, done + steps):
            state = usual_step(recipe, tasks, state, index)
        done += steps
        return time.perf_counter() - began

    return seconds
