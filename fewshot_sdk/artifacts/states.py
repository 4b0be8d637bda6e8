"""What an inner loop starts from: before any training, and as the files of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.engine.optimizers import no_memory
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.nets.params import RATE, LearnerState, Params, check_alike, learned, named_rates
from fewshot_sdk.storage.bundles import WEIGHTS
from fewshot_sdk.storage.tensors import from_safetensors, to_safetensors

_MODEL, _INNER = WEIGHTS
_OUTER = "outer_state.safetensors"


def beginning(params: Params, inner: InnerLoop, meta: MetaLoop) -> LearnerState:
    """The state of these weights before any step: empty second moments, rates that are all the inner loop's."""
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
    """The state in these files; `like` gives the names and shapes that it must have.

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
    """What the outer optimizer remembers, if anything, for a checkpoint."""
    return {_OUTER: to_safetensors(outer)} if outer else {}


def outer_of(files: Mapping[str, bytes], where: Path, like: LearnerState, meta: MetaLoop) -> Params:
    """What the outer optimizer remembers by these files; nothing if they are no checkpoint's. Raises ParamsMismatch."""
    if _OUTER not in files:
        return {}
    outer = from_safetensors(files[_OUTER], str(where / _OUTER))
    check_alike(outer, no_memory(learned(like), meta.optimizer), str(where / _OUTER))
    return outer


def remembered(outer: Params, state: LearnerState, meta: MetaLoop, done: int) -> Params:
    """What the outer optimizer remembers after `done` outer steps. Raises ConfigError if it should and does not."""
    memory = no_memory(learned(state), meta.optimizer)
    if memory and not outer and done:
        raise ConfigError(
            "this initialization does not hold what the outer optimizer remembers, and its training cannot go on; "
            "continue from a checkpoint, or start a new one"
        )
    return outer or memory
