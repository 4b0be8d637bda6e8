"""The start of a training run, or its continuation from a checkpoint: settings, data, pre-training, steps to take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fewshot_sdk.artifacts.initialization import (
    AnyInitialization,
    Initialization,
    NumberInitialization,
    from_weights,
    load_checkpoint,
    load_checkpoint_of_numbers,
    save_checkpoint,
)
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.regression import Regression
from fewshot_sdk.data.opening import open_dataset
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine import processors
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.meta import curve, pretraining
from fewshot_sdk.meta.events import Began, Listener, Reading, ignore
from fewshot_sdk.meta.regression import NumberStep, meta_train_on_numbers
from fewshot_sdk.meta.training import MetaStep, meta_train, origin

COMMAND, CHECKPOINT_EVERY = "train_to_folder(...)", 200


@dataclass(frozen=True, kw_only=True)
class Run:
    """The settings of a training run, the same in all of its processes; see `train_to_folder`."""

    recipe: Recipe | Regression
    output: Path
    root: Path | None = None
    seed: int = 0
    checkpoint_every: int = CHECKPOINT_EVERY
    evaluate_every: int | None = None
    device: torch.device | None = None
    command: str = COMMAND

    @property
    def checkpoint(self) -> Path:
        """The file of unfinished meta-training."""
        return checkpoint_of(self.output)

    @property
    def pretraining(self) -> Path:
        """The file of unfinished pre-training."""
        return pretraining_of(self.output)


def checkpoint_of(output: Path) -> Path:
    """The file of unfinished meta-training, beside the output folder."""
    return output.with_name(f"{output.name}.checkpoint")


def pretraining_of(output: Path) -> Path:
    """The file of unfinished pre-training, beside the output folder."""
    return output.with_name(f"{output.name}.pretraining")


def prepare(run: Run, weights: Initialization | None = None, on_event: Listener = ignore) -> None:
    """Do what comes before the outer steps, in one process: read the data, pre-train, and write a first checkpoint.

    There is no checkpoint if the outer steps begin with random weights. Pre-training takes all cores; an interrupted
    epoch is lost.
    """
    recipe = run.recipe
    if weights is not None and (isinstance(recipe, Regression) or recipe.pretraining):
        raise ConfigError(f"weights: {recipe.preset} starts from random weights; leave this argument out")
    if isinstance(recipe, Regression):
        return
    if weights is not None and weights.recipe.backbone != recipe.backbone:
        raise ConfigError(f"weights: expected a backbone {recipe.backbone}, found {weights.recipe.backbone}")
    on_event(Reading(data=recipe.data.name))
    tasks = tasks_of(run, recipe)  # decodes them once, for all processes
    if run.checkpoint.exists():
        return
    if recipe.pretraining is not None:
        _pretrain(run, recipe, tasks, on_event)
    elif weights is not None:
        made = origin(tasks, run.command, run.device)
        save_checkpoint(from_weights(recipe, weights.state.params, made), run.checkpoint)


def steps_left(run: Run, workers: Workers) -> tuple[AnyInitialization | None, Iterator[MetaStep | NumberStep]]:
    """The checkpoint, or None if training starts from random weights, and the outer steps from there."""
    if isinstance(run.recipe, Regression):
        return _on_numbers(run, run.recipe, workers)
    return _on_pictures(run, run.recipe, workers)


def _on_pictures(run: Run, recipe: Recipe, workers: Workers) -> tuple[Initialization | None, Iterator[MetaStep]]:
    start = load_checkpoint(run.checkpoint) if run.checkpoint.exists() else None
    command = start.provenance.command if start else run.command
    steps = meta_train(recipe, tasks_of(run, recipe), start=start, workers=workers, device=run.device, command=command)
    before = start.metrics if start else ()
    return start, curve.measured(
        steps, recipe, every=run.evaluate_every, root=run.root, seed=run.seed, before=before, workers=workers
    )


def _on_numbers(
    run: Run, recipe: Regression, workers: Workers
) -> tuple[NumberInitialization | None, Iterator[NumberStep]]:
    start = load_checkpoint_of_numbers(run.checkpoint) if run.checkpoint.exists() else None
    command = start.provenance.command if start else run.command
    return start, meta_train_on_numbers(recipe, seed=run.seed, start=start, workers=workers, command=command)


def tasks_of(run: Run, recipe: Recipe) -> TaskSampler:
    """The tasks of a run; its data set is decoded into the cache if it is not there yet."""
    data = open_dataset(recipe.data, recipe.preprocessing, "train", run.root)
    return TaskSampler(data=data, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot, seed=run.seed)


def _pretrain(run: Run, recipe: Recipe, tasks: TaskSampler, on_event: Listener) -> None:
    assert recipe.pretraining is not None
    start = None
    if run.pretraining.exists():
        start = pretraining.load_pretraining(run.pretraining, recipe, run.seed, tasks.data)
    done, total = start.done if start else 0, recipe.pretraining.epochs
    if done < total:
        on_event(Began(work="pre-training", done=done, total=total))
    threads = processors.cores() if recipe.backbone.many_threads else 1
    epoch = start
    for epoch in pretraining.pretrain(recipe, tasks.data, seed=run.seed, threads=threads, start=start):
        pretraining.save_pretraining(epoch, recipe, run.seed, tasks.data, run.pretraining)
        on_event(epoch)
    assert epoch is not None
    made = origin(tasks, run.command, run.device)
    save_checkpoint(pretraining.pretrained(recipe, epoch, tasks.data.n_classes, made), run.checkpoint)
    run.pretraining.unlink()
