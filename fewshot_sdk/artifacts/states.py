"""The state an inner loop starts from: before any training, and as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.engine.optimizers import initial_memory
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.nets.params import RATE, LearnerState, Params, check_alike, learned, named_rates
from fewshot_sdk.storage.bundles import WEIGHTS
from fewshot_sdk.storage.tensors import from_safetensors, to_safetensors

_MODEL, _INNER = WEIGHTS
_OUTER = "outer_state.safetensors"


def initial_state(params: Params, inner: InnerLoop, meta: MetaLoop) -> LearnerState:
    """The state of these weights before any step: zero second moments, and the inner loop's rate for every weight."""
    moments: Params = {}
    rates: Params = {}
    if inner.optimizer == "adam":
        moments = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
    if ALGORITHMS[meta.algorithm].learns_rates:
        rates = {name: torch.full_like(tensor, inner.learning_rate) for name, tensor in params.items()}
    return LearnerState(params=params, second_moments=moments, updates=0, rates=rates)


def state_files(state: LearnerState) -> dict[str, bytes]:
    """model.safetensors, and inner_state.safetensors: second moments, learned rates and the number of updates."""
    inner = {**state.second_moments, **named_rates(state), "updates": torch.tensor(state.updates)}
    return {_MODEL: to_safetensors(state.params), _INNER: to_safetensors(inner)}


def state_of(files: Mapping[str, bytes], where: Path, like: LearnerState) -> LearnerState:
    """The state in these files; `like` has the names and shapes it must have.

    Raises BundleError, ParamsMismatch.
    """
    params = from_safetensors(files[_MODEL], str(where / _MODEL))
    inner = from_safetensors(files[_INNER], str(where / _INNER))
    check_alike(params, like.params, str(where / _MODEL))
    expected = {**like.second_moments, **named_rates(like), "updates": torch.tensor(0)}
    check_alike(inner, expected, str(where / _INNER))
    updates = int(inner.pop("updates"))
    if updates < 0:
        raise BundleError(f"{where / _INNER}: expected 0 or more updates, found {updates}")
    rates = {name.removeprefix(RATE): inner.pop(name) for name in named_rates(like)}
    return LearnerState(params=params, second_moments=inner, updates=updates, rates=rates)


def outer_files(outer: Params) -> dict[str, bytes]:
    """A checkpoint's file for the outer optimizer's state, if there is any."""
    return {_OUTER: to_safetensors(outer)} if outer else {}


def outer_of(files: Mapping[str, bytes], where: Path, like: LearnerState, meta: MetaLoop) -> Params:
    """The outer optimizer's state in these files; empty if they are not a checkpoint's. Raises ParamsMismatch."""
    if _OUTER not in files:
        return {}
    outer = from_safetensors(files[_OUTER], str(where / _OUTER))
    check_alike(outer, initial_memory(learned(like), meta.optimizer), str(where / _OUTER))
    return outer


def resumed_outer(outer: Params, state: LearnerState, meta: MetaLoop, done: int) -> Params:
    """The outer optimizer's state after `done` outer steps. Raises ConfigError if it is needed and missing."""
    initial = initial_memory(learned(state), meta.optimizer)
    if initial and not outer and done:
        raise ConfigError(
            "this initialization lacks the outer optimizer's state, so its training cannot be continued; continue from "
            "a checkpoint, or start again"
        )
    return outer or initial
