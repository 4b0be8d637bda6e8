"""Arithmetic on named tensors, and the state that an inner loop starts from and ends with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fewshot_sdk.errors import ParamsMismatch

Params = dict[str, Tensor]
RATE = "rate."


@dataclass(frozen=True, kw_only=True)
class LearnerState:
    """Weights and what the inner optimizer remembers of them.

    second_moments: Adam's running mean of squared gradients; empty for SGD.
    updates: inner updates behind these moments (Adam's t, for bias correction).
    rates: Meta-SGD's learned rate of each single weight, in place of the inner loop's; empty for the others.
    """

    params: Params
    second_moments: Params
    updates: int
    rates: Params = field(default_factory=dict)


def learned(state: LearnerState) -> Params:
    """What an outer loop learns by its gradient: the weights, and the rates, named `rate.NAME`."""
    return {**state.params, **named_rates(state)}


def named_rates(state: LearnerState) -> Params:
    """The rates by the names that keep them apart from the weights: `rate.NAME`."""
    return {RATE + name: rate for name, rate in state.rates.items()}


def with_learned(state: LearnerState, found: Params) -> LearnerState:
    """The state with other weights and rates: the inverse of `learned`."""
    rates = {name: found[RATE + name] for name in state.rates}
    return replace(state, params={name: found[name] for name in state.params}, rates=rates)


def flatten(state: LearnerState) -> Tensor:
    """Weights and second moments as one vector, in the order of their names."""
    return torch.cat([tensor.flatten() for part in _parts(state) for _, tensor in sorted(part.items())])


def unflatten(vector: Tensor, like: LearnerState, updates: int) -> LearnerState:
    """The state that `flatten` made a vector of; `like` gives the names and shapes."""
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
    """Raises ParamsMismatch, naming the tensor, unless keys, shapes and dtypes are equal."""
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

    Step 0 gives `old` and step 1 gives `new`, to the bit. The result has the keys, shapes and
    dtypes of `old`; neither input changes.
    Raises ParamsMismatch if they differ.  Source: Reptile, Algorithm 1.
    """
    check_alike(new, old, "interpolate")
    return {name: old[name].lerp(new[name], step) for name in old}


def difference(left: Params, right: Params) -> Params:
    """`left - right`, tensor by tensor. Raises ParamsMismatch if keys, shapes or dtypes differ."""
    check_alike(left, right, "difference")
    return {name: left[name] - right[name] for name in left}


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
