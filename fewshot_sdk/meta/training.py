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
from fewshot_sdk.config.recipe import DataSource, OwnClasses, Recipe
from fewshot_sdk.config.recipe_files import differences
from fewshot_sdk.config.recipe_settings import AnyRecipe, flat, table_of
from fewshot_sdk.config.records import Progress, Provenance
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.tasks import Task, TaskSampler
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError, DeviceError
from fewshot_sdk.meta.outer_loop import Position, Setup, outer_step
from fewshot_sdk.nets.network import build_network


@dataclass(frozen=True, kw_only=True)
class MetaStep(Generic[R, E]):
    """The result of one outer step.

    done: outer steps taken so far, 1 to meta_steps.
    loss: mean over the tasks of the last inner mini-batch's loss: cross-entropy in nats, or squared error for numbers.
    line: the step's line in metrics.jsonl, a `Metric` at a point of the learning curve; None for most steps.
    """

    done: int
    meta_steps: int
    loss: float
    initialization: Initialization[R, E]
    line: Progress | None = None


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
    tasks in a step; TrainingDiverged, naming step and task, if a loss is not finite; DeviceError if a GPU's memory does
    not suffice.
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
    provenance = provenance.replace(weights=start.provenance.weights, start=start.provenance.start)
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
        try:
            with one_thread():
                at, loss = outer_step(setup, at, done, workers)
        except torch.OutOfMemoryError as error:
            reason = str(error).strip().splitlines()[0]
            raise DeviceError(
                f"the GPU's memory did not suffice for outer step {done + 1} ({reason}); resume when other programs "
                "have freed some, or start again with fewer tasks_per_step or on the CPU"
            ) from None
        seconds += time.monotonic() - began  # the time the caller takes between two steps is not training
        made = provenance.replace(meta_steps_done=done + 1, seconds=round(seconds, 1))
        yield MetaStep(
            done=done + 1,
            meta_steps=meta.meta_steps,
            loss=loss,
            initialization=Initialization(recipe=recipe, state=at.state, provenance=made, outer=at.memory),
        )


def trial_step(recipe: Recipe, device: torch.device) -> None:
    """One outer step of one inner step on blank pictures: what the device cannot do or hold fails here, not later."""
    meta, pixels = recipe.meta, recipe.preprocessing
    network = build_network(recipe.backbone, pixels, meta.n_way).to(device)
    n = meta.n_way * meta.k_shot
    blank = Task(
        n_way=meta.n_way,
        support=torch.zeros(n, pixels.height, pixels.width, pixels.channels, dtype=torch.uint8),
        support_labels=torch.arange(meta.n_way).repeat_interleave(meta.k_shot),
        query=torch.zeros(0, pixels.height, pixels.width, pixels.channels, dtype=torch.uint8),
        query_labels=torch.zeros(0, dtype=torch.int64),
        seed=(0, 0),
    )
    made = Provenance(command="", seed=0, meta_steps_done=0, data_sha256="", seconds=0, versions={})
    state, inner = fresh(recipe, 0, made).state, recipe.inner.replace(steps=1)
    setup = Setup(network=network, task=lambda _: blank, inner=inner, meta=meta, head=recipe.head, device=device)
    with one_thread():
        outer_step(setup, Position(state=state, memory=resumed_outer({}, state, meta, 0)), 0, Workers())


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


def check_continues(start: AnyInitialization, recipe: AnyRecipe, provenance: Provenance) -> None:
    """Raises ConfigError, naming each difference, unless `start` is a step of the same training run."""
    progress = {"command", "meta_steps_done", "seconds"}
    old, new = flat(start.provenance.model_dump()), flat(provenance.model_dump())
    differing = [
        *differences(flat(table_of(start.recipe)), flat(table_of(recipe))),
        *(found for found in differences(old, new) if found.partition(" ")[0] not in progress),
    ]
    if any(found.startswith("data.split ") for found in differing):  # which says more than all names and hashes
        differing = [found for found in differing if not found.startswith(("data.own.", "data_sha256 "))]
    if start.provenance.data_sha256 != provenance.data_sha256 and start.recipe == recipe:
        differing.insert(0, f"the pictures or classes of {recipe.data} have changed")
    if differing:
        raise ConfigError(
            f"this is not the interrupted training run: {'; '.join(differing)}; resume it with the same settings, or "
            "start a new one with another --output"
        )


def _name(device: torch.device | None) -> str | None:
    return torch.cuda.get_device_name(device) if device and device.type == "cuda" else str(device or "") or None
