"""The outer step: from what the tasks of one step learned to the next initialization."""

from __future__ import annotations

import torch

from fewshot_sdk.config import MetaLoop
from fewshot_sdk.params import LearnerState, Params, interpolate

BETAS, EPSILON = (0.9, 0.999), 1e-8
FIRST, SECOND = "first.", "second."


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


def descend(now: Params, slope: Params, memory: Params, done: int, meta: MetaLoop) -> tuple[Params, Params]:
    """One step of the outer optimizer down a slope: the new values, and what it remembers.

    sgd:  p - step g
    adam: m' = beta1 m + (1 - beta1) g,  v' = beta2 v + (1 - beta2) g^2,  p - step m^ / (sqrt(v^) + epsilon), where
          ^ is unbiased by 1 - beta^t; `done` steps are behind it. m is remembered as `first.NAME`, v as `second.NAME`.
    Source: Kingma & Ba, Algorithm 1.
    """
    rate = step_size_at(done, meta)
    if meta.optimizer == "sgd":
        return {name: p.sub(slope[name], alpha=rate) for name, p in now.items()}, {}
    unbias = [1 - beta ** (done + 1) for beta in BETAS]
    moved: Params = {}
    kept: Params = {}
    for name, p in now.items():
        g = slope[name]
        first = memory[FIRST + name].lerp(g, 1 - BETAS[0])
        second = torch.addcmul(memory[SECOND + name] * BETAS[1], g, g, value=1 - BETAS[1])
        moved[name] = torch.addcdiv(p, first / unbias[0], (second / unbias[1]).sqrt().add_(EPSILON), value=-rate)
        kept |= {FIRST + name: first, SECOND + name: second}
    return moved, kept


def no_memory(now: Params, meta: MetaLoop) -> Params:
    """What the outer optimizer remembers before its first step."""
    if meta.optimizer == "sgd":
        return {}
    return {part + name: torch.zeros_like(tensor) for name, tensor in now.items() for part in (FIRST, SECOND)}


def step_size_at(done: int, meta: MetaLoop) -> float:
    """The outer step size after `done` of `meta_steps`: linear from the first to the final one.

    Source: the reference implementation's `train`.
    """
    progress = done / meta.meta_steps
    return (1 - progress) * meta.step_size + progress * meta.final_step_size
