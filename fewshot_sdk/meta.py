"""The outer step: from what the tasks of one step learned to the next initialization."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot_sdk.config import MetaLoop
from fewshot_sdk.params import LearnerState, interpolate, mean


def reptile_step(start: LearnerState, adapted: Sequence[LearnerState], step_size: float) -> LearnerState:
    """Move the weights a fraction of the way to the mean of the adapted ones: phi + step (W - phi).

    The inner optimizer's memory goes the whole way: its moments become the mean over the tasks.
    (The reference hands them on from task to task instead; here all tasks of a step start alike,
    so that they can run side by side.)
    Source: Reptile, Algorithm 2.
    """
    return LearnerState(
        params=interpolate(start.params, mean([state.params for state in adapted]), step_size),
        second_moments=mean([state.second_moments for state in adapted]),
        updates=adapted[0].updates,
    )


def step_size_at(done: int, meta: MetaLoop) -> float:
    """The outer step size after `done` of `meta_steps`: linear from the first to the final one.

    Source: the reference implementation's `train`.
    """
    progress = done / meta.meta_steps
    return (1 - progress) * meta.step_size + progress * meta.final_step_size
