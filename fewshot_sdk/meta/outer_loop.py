"""One outer step: its tasks are shared among workers, and their mean moves the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fewshot_sdk.algorithms import ALGORITHMS, first_order
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Task
from fewshot_sdk.engine.heads import Head, close_head, open_head
from fewshot_sdk.engine.inner_loop import FineTuner, Loss, cross_entropy
from fewshot_sdk.engine.optimizers import descend
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError, TrainingDiverged
from fewshot_sdk.meta.first_order import Result, target, targets
from fewshot_sdk.meta.second_order import gradient, moved_by_outer_steps
from fewshot_sdk.nets.params import (
    LearnerState,
    Params,
    difference,
    flatten,
    interpolate,
    learned,
    unflatten,
    with_learned,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """The constants of the outer loop.

    task: a function from i to task number i of the endless stream. head: None for a network that is not ours.
    device: a GPU, which computes the tasks of a step side by side.
    """

    network: nn.Module
    task: Callable[[int], Task]
    inner: InnerLoop
    meta: MetaLoop
    head: Head | None = None
    loss: Loss = cross_entropy
    device: torch.device | None = None


@dataclass(frozen=True, kw_only=True)
class Position:
    """The state of the outer loop: the learner's state, as stored, and the outer optimizer's memory (see `descend`)."""

    state: LearnerState
    memory: Params


def outer_step(setup: Setup, at: Position, done: int, workers: Workers) -> tuple[Position, float]:
    """The position after outer step number `done`, and the mean over its tasks of the last mini-batch's loss.

    It takes the tasks from number `done * tasks_per_step` on; the bits do not depend on the number of workers.
    Raises ConfigError if there are more workers than tasks in a step; TrainingDiverged, naming step and task, if a loss
    or a weight is not finite.
    """
    if workers.size > setup.meta.tasks_per_step:
        n_tasks = setup.meta.tasks_per_step
        raise ConfigError(f"{workers.size} workers cannot share {n_tasks} tasks; use at most {n_tasks}")
    step = _towards_targets if first_order(setup.meta.algorithm) else _down_the_gradient
    return step(setup, at, done, workers)


def _towards_targets(setup: Setup, at: Position, done: int, workers: Workers) -> tuple[Position, float]:
    """A step towards the mean of the tasks' targets: Reptile, first-order MAML and other first-order algorithms."""
    inner, meta, stored = setup.inner, setup.meta, at.state
    opened = stored if setup.head is None else open_head(stored, setup.head, setup.network)
    tuner = FineTuner(setup.network, opened, inner, setup.device, setup.loss)
    mine = _share(setup, done, workers)
    found: Iterable[Result]
    if setup.device is None:
        cores = workers.cores(meta.tasks_per_step)
        found = (target(tuner, task, inner, meta, n) for task, n in zip(mine, cores, strict=True))
    else:
        found = targets(tuner, list(mine), inner, meta)
    end, loss = _mean(setup, found, done, workers)
    adapted = tuner.state(end, stored.updates + inner.steps)
    if setup.head is not None:
        adapted = close_head(adapted, setup.head)
    if meta.optimizer == "sgd":
        return Position(state=reptile_step(stored, adapted, step_size_at(done, meta)), memory={}), loss
    gradient_like = difference(stored.params, adapted.params)
    params, memory = descend(stored.params, gradient_like, at.memory, done, meta.optimizer, step_size_at(done, meta))
    return Position(state=replace(adapted, params=params), memory=memory), loss


def _down_the_gradient(setup: Setup, at: Position, done: int, workers: Workers) -> tuple[Position, float]:
    """A step down the mean gradient of the tasks' last losses: the MAML family and ProtoNet."""
    network, inner, meta = setup.network, setup.inner, setup.meta

    def contribution_of(task: Task) -> Result:
        mean_gradient, losses = gradient(network, at.state, task, inner, meta, setup.head, setup.loss)
        return flatten(_as_state(mean_gradient)), losses

    mean, loss = _mean(setup, map(contribution_of, _share(setup, done, workers)), done, workers)
    everything = learned(at.state)
    now = {name: everything[name] for name in moved_by_outer_steps(network, at.state, inner, meta)}
    mean_gradient = unflatten(mean, _as_state(now), 0).params
    moved, memory = descend(now, mean_gradient, at.memory, done, meta.optimizer, step_size_at(done, meta))
    return Position(state=with_learned(at.state, everything | moved), memory=at.memory | memory), loss


def _share(setup: Setup, done: int, workers: Workers) -> Iterator[Task]:
    n = setup.meta.tasks_per_step
    return (setup.task(done * n + i) for i in workers.share(n))


def _mean(setup: Setup, mine: Iterable[Result], done: int, workers: Workers) -> tuple[Tensor, float]:
    """The mean over all tasks of the vectors, and of the last losses."""
    n = setup.meta.tasks_per_step
    total = workers.total((_with_loss(*found, i, n) for i, found in zip(workers.share(n), mine, strict=True)), n)
    losses = total[:n]
    for i, loss in enumerate(losses):
        if not torch.isfinite(loss):
            lower = f"inner learning rate than {setup.inner.learning_rate}"
            if not ALGORITHMS[setup.meta.algorithm].takes_steps:
                lower = f"step_size than {setup.meta.step_size}, and look at the task's numbers"
            raise TrainingDiverged(
                f"the loss, or a weight, of task {done * n + i} is not finite at outer step {done + 1}; "
                f"try a lower {lower}"
            )
    return total[n:].div_(n), losses.mean().item()


def _as_state(params: Params) -> LearnerState:
    return LearnerState(params=params, second_moments={}, updates=0)


def _with_loss(end: Tensor, losses: Tensor, i: int, n: int) -> Tensor:
    """The last loss at place i of n zeros, NaN if any loss or number of `end` is not finite; followed by `end`.

    A sum is finite if all its numbers are, unless it overflows, and takes a twentieth of the time of looking at each.
    """
    last = torch.zeros(n)
    last[i] = losses[-1] if torch.isfinite(losses.sum() + end.sum()) else torch.nan
    return torch.cat([last, end])


def reptile_step(start: LearnerState, adapted: LearnerState, step_size: float) -> LearnerState:
    """Move the weights a fraction of the way to `adapted`, the mean over the tasks: phi + step (W - phi).

    The inner optimizer's second moments become those of the mean. (The reference passes them on from task to task; here
    all tasks of a step start alike, so that they can run side by side.)
    Source: Reptile, Algorithm 2.
    """
    return LearnerState(
        params=interpolate(start.params, adapted.params, step_size),
        second_moments=adapted.second_moments,
        updates=adapted.updates,
    )


def step_size_at(done: int, meta: MetaLoop) -> float:
    """The outer step size after `done` of `meta_steps`: linear from `step_size` to `final_step_size`.

    Source: the reference implementation's `train`.
    """
    progress = done / meta.meta_steps
    return (1 - progress) * meta.step_size + progress * meta.final_step_size
