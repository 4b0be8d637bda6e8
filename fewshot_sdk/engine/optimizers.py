"""PyTorch's optimizers as functions from what they remember to what they remember next, for outer steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, Optimizer, RAdam, RMSprop

from fewshot_sdk.algorithms import Outer
from fewshot_sdk.nets.params import Params

O = TypeVar("O", bound=Optimizer)  # noqa: E741


def light(kind: type[O]) -> type[O]:
    """The optimizer without the wrappers that import PyTorch's compiler, a second's work, to keep themselves out of it.

    Its step is to be taken under `torch.no_grad`.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in ("add_param_group", "step")}
    return type(kind.__name__, (kind,), methods)


# Each with the names that PyTorch gives what it remembers of a weight, all of the weight's shape and 0 at first.
KINDS: dict[Outer, tuple[Callable[..., Optimizer], tuple[str, ...]]] = {
    "sgd": (light(SGD), ()),
    "momentum": (partial(light(SGD), momentum=0.9), ("momentum_buffer",)),
    "nesterov": (partial(light(SGD), momentum=0.9, nesterov=True), ("momentum_buffer",)),
    "adam": (light(Adam), ("exp_avg", "exp_avg_sq")),
    "adamw": (light(AdamW), ("exp_avg", "exp_avg_sq")),
    "adamax": (light(Adamax), ("exp_avg", "exp_inf")),
    "radam": (light(RAdam), ("exp_avg", "exp_avg_sq")),
    "rmsprop": (light(RMSprop), ("square_avg",)),
    "adagrad": (light(Adagrad), ("sum",)),
}


def descend(
    now: Params, gradient: Params, memory: Params, done: int, optimizer: Outer, rate: float
) -> tuple[Params, Params]:
    """One step of an optimizer down a slope, at a rate: the new values, and what it remembers, as `no_memory` names it.

    done: steps behind it. Neither input changes. The settings but for the rate are PyTorch's own; momentum is 0.9.
    """
    kind, parts = KINDS[optimizer]
    moved = {name: tensor.detach().clone() for name, tensor in now.items()}
    with torch.no_grad():
        down = kind(list(moved.values()), lr=rate, foreach=False)
        for name, tensor in moved.items():
            tensor.grad = gradient[name]
            state: dict[str, Any] = {part: memory[f"{part}.{name}"].clone() for part in parts}
            down.state[tensor] = {**state, "step": torch.tensor(float(done))}
        down.step()
    kept = {f"{part}.{name}": down.state[tensor][part] for name, tensor in moved.items() for part in parts}
    for tensor in moved.values():
        tensor.grad = None
    return moved, kept


def no_memory(now: Params, optimizer: Outer) -> Params:
    """What the optimizer remembers before its first step: `PART.NAME` for each part of each value."""
    _, parts = KINDS[optimizer]
    return {f"{part}.{name}": torch.zeros_like(tensor) for name, tensor in now.items() for part in parts}
