"""Arithmetic on named tensors, and the state at the start and the end of an inner loop."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fewshot_sdk.errors import ParamsMismatch

Params = dict[str, Tensor]
RATE = "rate."


@dataclass(frozen=True, kw_only=True)
class LearnerState:
    """Weights and the memory of the inner optimizer.

    second_moments: Adam's running mean of squared gradients; empty for SGD.
    updates: number of inner updates in these moments (Adam's t, for bias correction).
    rates: Meta-SGD's learned rate of each single weight, which replaces the inner loop's; empty for other algorithms.
    """

    params: Params
    second_moments: Params
    updates: int
    rates: Params = field(default_factory=dict)


def learned(state: LearnerState) -> Params:
    """Everything that an outer loop learns by gradient: the weights and the rates, named `rate.NAME`."""
    return {**state.params, **named_rates(state)}


def named_rates(state: LearnerState) -> Params:
    """The rates, named `rate.NAME` to distinguish them from the weights."""
    return {RATE + name: rate for name, rate in state.rates.items()}


def with_learned(state: LearnerState, found: Params) -> LearnerState:
    """The state with new weights and rates: the inverse of `learned`."""
    rates = {name: found[RATE + name] for name in state.rates}
    return replace(state, params={name: found[name] for name in state.params}, rates=rates)


def flatten(state: LearnerState) -> Tensor:
    """Weights and second moments as one vector, each in the order of names."""
    return torch.cat([tensor.flatten() for part in _parts(state) for _, tensor in sorted(part.items())])


def unflatten(vector: Tensor, like: LearnerState, updates: int) -> LearnerState:
    """The state of a vector made by `flatten`; `like` gives the names and shapes."""
    parts: list[Params] = []
    for part in _parts(like):
        views: Params = {}
        for name, tensor in sorted(part.items()):
            views[name], vector = vector[: tensor.numel()].view(tensor.shape), vector[tensor.numel() :]
        parts.append({name: views[name] for name in part})
    return replace(like, params=parts[0], second_moments=parts[1], updates=updates)


def _parts(state: LearnerState) -> tuple[Params, Params]:
    return state.params, state.second_moments


def check_alike(found: Params, expected: Params, what: str) -> None:
    """Check names, shapes and dtypes. Raises ParamsMismatch with the tensor's name if they differ."""
    for name in expected.keys() - found.keys():
        raise ParamsMismatch(f"{what}: tensor {name!r} is missing; was it made with other settings?")
    for name in found.keys() - expected.keys():
        raise ParamsMismatch(f"{what}: unexpected tensor {name!r}; was it made with other settings?")
    for name, tensor in expected.items():
        got = found[name]
        if got.shape != tensor.shape or got.dtype != tensor.dtype:
            raise ParamsMismatch(
                f"{what}: tensor {name!r}: expected {_kind(tensor)}, found {_kind(got)}; "
                "was it made with other settings?"
            )


def interpolate(old: Params, new: Params, step: float) -> Params:
    """Move `old` a fraction `step` of the way to `new`: `old + step * (new - old)`.

    Step 0 gives exactly `old` and step 1 exactly `new`. The result has the keys, shapes and
    dtypes of `old`; neither input changes.
    Raises ParamsMismatch if these differ in `new`.  Source: Reptile, Algorithm 1.
    """
    check_alike(new, old, "interpolate")
    return {name: old[name].lerp(new[name], step) for name in old}


def difference(left: Params, right: Params) -> Params:
    """`left - right`, tensor by tensor. Raises ParamsMismatch if keys, shapes or dtypes differ."""
    check_alike(left, right, "difference")
    return {name: left[name] - right[name] for name in left}


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
