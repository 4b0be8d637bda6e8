"""Meta-training: from a recipe and a stream of tasks to an initialization, one event for each outer step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic

import torch

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.artifacts.initialization import AnyInitialization, E, Initialization, R, fresh
from fewshot_sdk.artifacts.states import resumed_outer
from fewshot_sdk.config.recipe import Config, DataSource, OwnClasses, Recipe
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.meta.outer_loop import Position, Setup, outer_step
from fewshot_sdk.nets.network import build_network


@dataclass(frozen=True, kw_only=True)
class MetaStep(Generic[R, E]):
    """The result of one outer step.

    done: outer steps taken so far, 1 to meta_steps.
    loss: mean over the tasks of the last inner mini-batch's loss: cross-entropy in nats, or squared error for numbers.
    """

    done: int
    meta_steps: int
    loss: float
    initialization: Initialization[R, E]


def meta_train(
    recipe: Recipe,
    tasks: TaskSampler,
    *,
    start: Initialization | None = None,
    workers: Workers | None = None,
    device: torch.device | None = None,
    command: str = "meta_train(...)",
) -> Iterator[MetaStep]:
    """Reptile, or the algorithm that the recipe names: yields one MetaStep for each of `recipe.meta.meta_steps`.

    Outer step i takes the tasks from number `i * tasks_per_step` on; the stream's seed also draws the first weights.
    Same recipe and tasks: same bits. `start`, an earlier step's initialization, continues from there, to the same
    bits as without the interruption.
    workers: the processes that all run this function with the same arguments and share the tasks, again to the same
    bits; None: this process alone. device: a GPU, which computes the tasks of a step side by side, in float32; None:
    the CPU, with the compiled inner loop. command: recorded in the initialization's provenance.
    The initialization's recipe names the data of `tasks` (see `trained_on`) if these are not the recipe's own.
    Raises ConfigError, naming what differs, if `start` is from another training run, or if there are more workers than
    tasks in a step; TrainingDiverged, naming step and task, if a loss is not finite.
    Source: Reptile, Algorithm 2; for the others see `fewshot_sdk.config.recipe.MetaLoop`.
    """
    named, recipe = recipe, recipe.replace(data=trained_on(recipe, tasks.data))
    if start is not None and start.recipe == named:  # the same data by their hash, which is compared below
        start = replace(start, recipe=recipe)
    meta = recipe.meta
    network = build_network(recipe.backbone, recipe.preprocessing, tasks.n_way).to(device)
    provenance = origin(tasks, command, device)
    if start is None:
        start = fresh(recipe, tasks.seed, provenance)
    check_continues(start, recipe, provenance)
    workers = workers or Workers()
    if device and not ALGORITHMS[meta.algorithm].side_by_side:
        raise ConfigError(f"{meta.algorithm} has no side-by-side form; train it on the CPU")
    before = start.provenance
    memory = resumed_outer(start.outer, start.state, meta, before.meta_steps_done)
    seconds, at = before.seconds, Position(state=start.state, memory=memory)
    setup = Setup(network=network, task=tasks.task, inner=recipe.inner, meta=meta, head=recipe.head, device=device)
    for done in range(before.meta_steps_done, meta.meta_steps):
        began = time.monotonic()
        with one_thread():
            at, loss = outer_step(setup, at, done, workers)
        seconds += time.monotonic() - began  # the time the caller takes between two steps is not training
        made = provenance.replace(meta_steps_done=done + 1, seconds=round(seconds, 1))
        yield MetaStep(
            done=done + 1,
            meta_steps=meta.meta_steps,
            loss=loss,
            initialization=Initialization(recipe=recipe, state=at.state, provenance=made, outer=at.memory),
        )


def trained_on(recipe: Recipe, data: ClassImages) -> DataSource:
    """What a config names as the data: the recipe's, or, if these are others, their classes by name."""
    if data.recorded is not None:
        return data.recorded
    if data.name == recipe.data.name:
        return recipe.data
    return DataSource(name=data.name, split="own", own=OwnClasses(train=tuple(dict.fromkeys(data.names))))


def origin(tasks: TaskSampler, command: str, device: torch.device | None = None) -> Provenance:
    """The provenance of a training run on these tasks before its first step."""
    return Provenance(
        command=command,
        seed=tasks.seed,
        meta_steps_done=0,
        data_sha256=tasks.data.digest,
        seconds=0,
        versions=made_with(_name(device)),
    )


def check_continues(start: AnyInitialization, recipe: Config, provenance: Provenance) -> None:
    """Raises ConfigError, naming each difference, unless `start` is a step of the same training run."""
    old = {**_flat(start.recipe.model_dump()), **_flat(start.provenance.model_dump())}
    new = {**_flat(recipe.model_dump()), **_flat(provenance.model_dump())}
    progress = ("command", "meta_steps_done", "seconds")
    differing = [
        f"{name} was {_short(old.get(name))}, now {_short(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if name not in progress and old.get(name) != new.get(name)
    ]
    if differing:
        raise ConfigError(
            f"this is not the interrupted training run: {'; '.join(differing)}; resume it with the same settings, or "
            "start a new one with another --output"
        )


def _flat(settings: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _short(value: object) -> str:
    """A setting in at most 80 characters: one's own data may have thousands of classes."""
    return f"{str(value)[:77]}..." if len(str(value)) > 80 else str(value)


def _name(device: torch.device | None) -> str | None:
    return torch.cuda.get_device_name(device) if device and device.type == "cuda" else str(device or "") or None
