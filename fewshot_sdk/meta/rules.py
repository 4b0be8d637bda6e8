"""The outer step: from what the tasks of one step learned to the next initialization."""

from __future__ import annotations

from fewshot_sdk.config.recipe import MetaLoop
from fewshot_sdk.nets.params import LearnerState, interpolate


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
