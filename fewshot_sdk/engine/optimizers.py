"""PyTorch's optimizers as pure functions, for outer steps: values and memory in, new values and memory out."""

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
    """The optimizer without the wrappers that exclude it from PyTorch's compiler: importing that takes a second.

    Its step must be called under `torch.no_grad`.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in ("add_param_group", "step")}
    return type(kind.__name__, (kind,), methods)


# Each with PyTorch's names for what it remembers about a weight: tensors of the weight's shape, zero at first.
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
    """One optimizer step down the gradient: the new values and the new memory, named as in `initial_memory`.

    done: steps taken before. No input changes. Apart from the rate, settings are PyTorch's defaults; momentum is 0.9.
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


def initial_memory(now: Params, optimizer: Outer) -> Params:
    """The optimizer's memory before its first step: `PART.NAME` for each part of each value."""
    _, parts = KINDS[optimizer]
    return {f"{part}.{name}": torch.zeros_like(tensor) for name, tensor in now.items() for part in parts}
