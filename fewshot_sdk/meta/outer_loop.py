"""One outer step: its tasks, shared among workers, and where they move what is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fewshot_sdk.algorithms import ALGORITHMS, first_order
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Task
from fewshot_sdk.engine.heads import Head, close_head, open_head
from fewshot_sdk.engine.inner_loop import Loss, Tuner, cross_entropy
from fewshot_sdk.engine.optimizers import descend
from fewshot_sdk.engine.workers import Team
from fewshot_sdk.errors import TrainingDiverged
from fewshot_sdk.meta.first_order import Result, goal, goals
from fewshot_sdk.meta.second_order import gradient
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
class Course:
    """What stays the same from one outer step to the next.

    task: task number i of the endless stream. head: None for a network without one of ours.
    device: a GPU, which takes the tasks of a step side by side.
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
    """Where the outer loop stands: what is learned, as stored, and what its optimizer remembers (see `descend`)."""

    state: LearnerState
    memory: Params


def outer_step(course: Course, at: Position, done: int, team: Team) -> tuple[Position, float]:
    """Where outer step number `done` leads, and the mean over its tasks of the last mini-batch's loss.

    Tasks `done * tasks_per_step` and following; the bits do not depend on the size of the team.
    Raises TrainingDiverged, naming step and task, when a loss or a weight is not finite.
    """
    step = _towards_goals if first_order(course.meta.algorithm) else _down_the_slope
    return step(course, at, done, team)


def _towards_goals(course: Course, at: Position, done: int, team: Team) -> tuple[Position, float]:
    """The way to the mean of the tasks' goals: Reptile, first-order MAML, and whatever else is of first order."""
    inner, meta, stored = course.inner, course.meta, at.state
    opened = stored if course.head is None else open_head(stored, course.head, course.network)
    tuner = Tuner(course.network, opened, inner, course.device, course.loss)
    mine = _share(course, done, team)
    found: Iterable[Result]
    if course.device is None:
        cores = team.cores(meta.tasks_per_step)
        found = (goal(tuner, task, inner, meta, n) for task, n in zip(mine, cores, strict=True))
    else:
        found = goals(tuner, list(mine), inner, meta)
    end, loss = _mean(course, found, done, team)
    adapted = tuner.state(end, stored.updates + inner.steps)
    if course.head is not None:
        adapted = close_head(adapted, course.head)
    if meta.optimizer == "sgd":
        return Position(state=reptile_step(stored, adapted, step_size_at(done, meta)), memory={}), loss
    way = difference(stored.params, adapted.params)
    params, memory = descend(stored.params, way, at.memory, done, meta.optimizer, step_size_at(done, meta))
    return Position(state=replace(adapted, params=params), memory=memory), loss


def _down_the_slope(course: Course, at: Position, done: int, team: Team) -> tuple[Position, float]:
    """Down the mean slope of the tasks' last losses: MAML and its kin, and ProtoNet."""
    network, inner, meta = course.network, course.inner, course.meta

    def slope_of(task: Task) -> Result:
        slope, losses = gradient(network, at.state, task, inner, meta, course.head, course.loss)
        return flatten(_as_state(slope)), losses

    mean, loss = _mean(course, map(slope_of, _share(course, done, team)), done, team)
    now = learned(at.state)
    slope = unflatten(mean, _as_state(now), 0).params
    moved, memory = descend(now, slope, at.memory, done, meta.optimizer, step_size_at(done, meta))
    return Position(state=with_learned(at.state, moved), memory=memory), loss


def _share(course: Course, done: int, team: Team) -> Iterator[Task]:
    n = course.meta.tasks_per_step
    return (course.task(done * n + i) for i in team.share(n))


def _mean(course: Course, mine: Iterable[Result], done: int, team: Team) -> tuple[Tensor, float]:
    """The mean over all tasks of the vectors, and of the last losses."""
    n = course.meta.tasks_per_step
    total = team.total((_with_loss(*found, i, n) for i, found in zip(team.share(n), mine, strict=True)), n)
    losses = total[:n]
    for i, loss in enumerate(losses):
        if not torch.isfinite(loss):
            lower = f"inner learning rate than {course.inner.learning_rate}"
            if not ALGORITHMS[course.meta.algorithm].takes_steps:
                lower = f"step_size than {course.meta.step_size}, and look at the task's numbers"
            raise TrainingDiverged(
                f"the loss, or a weight, of task {done * n + i} is not finite at outer step {done + 1}; "
                f"try a lower {lower}"
            )
    return total[n:].div_(n), losses.mean().item()


def _as_state(params: Params) -> LearnerState:
    return LearnerState(params=params, second_moments={}, updates=0)


def _with_loss(end: Tensor, losses: Tensor, i: int, n: int) -> Tensor:
    """The last loss, NaN if any or a number of the end was not finite, as number i of n, the others 0; and the end."""
    last = torch.zeros(n)
    last[i] = losses[-1] if torch.isfinite(losses).all() and torch.isfinite(end).all() else torch.nan
    return torch.cat([last, end])


def reptile_step(start: LearnerState, adapted: LearnerState, step_size: float) -> LearnerState:
    """Move the weights a fraction of the way to `adapted`, the mean over the tasks: phi + step (W - phi).

    The inner optimizer's memory goes the whole way: its moments become that mean's.
    (The reference hands them on from task to task instead; here all tasks of a step start alike,
    so that they can run side by side.)
    Source: Reptile, Algorithm 2.
    """
    return LearnerState(
        params=interpolate(start.params, adapted.params, step_size),
        second_moments=adapted.second_moments,
        updates=adapted.updates,
    )


def step_size_at(done: int, meta: MetaLoop) -> float:
    """The outer step size after `done` of `meta_steps`: linear from the first to the final one.

    Source: the reference implementation's `train`.
    """
    progress = done / meta.meta_steps
    return (1 - progress) * meta.step_size + progress * meta.final_step_size
