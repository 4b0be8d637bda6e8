"""The start of a training run, or its continuation from a checkpoint: settings, data, pre-training, steps to take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fewshot_sdk.artifacts.initialization import (
    AnyInitialization,
    Initialization,
    NumberInitialization,
    continued,
    load_checkpoint,
    load_checkpoint_of_numbers,
    save_checkpoint,
)
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.recipe_settings import AnyRecipe
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.config.regression import Regression
from fewshot_sdk.data.opening import open_dataset
from fewshot_sdk.data.own_classes import check_new
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine import processors
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError, DataError
from fewshot_sdk.meta import curve, pretraining, trackers
from fewshot_sdk.meta.events import Began, Listener, Reading, ignore
from fewshot_sdk.meta.regression import NumberStep, meta_train_on_numbers
from fewshot_sdk.meta.training import MetaStep, meta_train, origin
from fewshot_sdk.storage.bundles import read_archive, settings_of_any
from fewshot_sdk.storage.siblings import best_of
from fewshot_sdk.storage.siblings import checkpoint_of as checkpoint_of
from fewshot_sdk.storage.siblings import pretraining_of as pretraining_of

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
    keep_best: bool = False
    tracker: trackers.TrackerName | None = None

    def __post_init__(self) -> None:
        if self.tracker is not None:
            trackers.check_installed(self.tracker)
        if self.keep_best:
            _check_has_best(self.recipe, self.evaluate_every)

    @property
    def checkpoint(self) -> Path:
        """The file of unfinished meta-training."""
        return checkpoint_of(self.output)

    @property
    def pretraining(self) -> Path:
        """The file of unfinished pre-training."""
        return pretraining_of(self.output)

    @property
    def best(self) -> Path:
        """The folder of the initialization with the best held-out accuracy."""
        return best_of(self.output)


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """The recipe and the seed of an unfinished training run."""

    recipe: AnyRecipe
    seed: int


def unfinished(output: Path) -> Unfinished:
    """The unfinished training run beside the output folder. Raises BundleError if there is none, or it is damaged."""
    path = checkpoint_of(output)
    if path.exists() or not pretraining_of(output).exists():
        found = settings_of_any(read_archive(path), path)
        return Unfinished(recipe=found.recipe, seed=found.provenance.seed)
    settings = pretraining.settings_in(pretraining_of(output))
    return Unfinished(recipe=settings.recipe, seed=settings.seed)


def _check_has_best(recipe: Recipe | Regression, evaluate_every: int | None) -> None:
    reason = ""
    if isinstance(recipe, Regression):
        reason = f"{recipe.preset} is for numbers, which have none"
    elif evaluate_every == 0:
        reason = "evaluate_every is 0, so that none is measured"
    elif recipe.meta.meta_steps == 0:
        reason = "there are no outer steps to choose from"
    elif not curve.ways(recipe):
        reason = f"{recipe.data.name} has too few classes for that, or none"
    if reason:
        raise ConfigError(f"keep_best: it chooses by the accuracy on held-out classes, but {reason}; leave it out")


def prepare(run: Run, init: Initialization | None = None, on_event: Listener = ignore) -> None:
    """Do what comes before the outer steps, in one process: read the data, pre-train, and write a first checkpoint.

    init: the initialization to go on from. Without one and without pre-training there is no checkpoint. Pre-training
    takes all cores; an interrupted epoch is lost.
    """
    recipe = run.recipe
    if init is not None and (isinstance(recipe, Regression) or recipe.pretraining):
        why = "pre-trains from random weights" if isinstance(recipe, Recipe) else "starts from random weights"
        raise ConfigError(f"init: {recipe.preset} {why}; name no initialization, or a recipe without pre-training")
    if isinstance(recipe, Regression):
        return
    if init is not None and recipe.data.own is not None:
        for part in ("val", "test"):
            check_new(getattr(recipe.data.own, part), part, {init.origin.name: init.own_classes})
    on_event(Reading(data=recipe.data.name))
    tasks = tasks_of(run, recipe)  # decodes them once, for all processes
    made = origin(tasks, run.command, run.device)
    if run.checkpoint.exists():
        if init is not None:
            _check_start(run, init)
    elif recipe.pretraining is not None:
        _pretrain(run, recipe, tasks, made, on_event)
    elif init is not None:
        save_checkpoint(continued(init, recipe, made), run.checkpoint)


def _check_start(run: Run, init: Initialization) -> None:
    """Raises ConfigError if the unfinished training did not begin with this initialization."""
    start = load_checkpoint(run.checkpoint).provenance.start
    if start is None or start.sha256 != init.sha256:
        began = "random weights" if start is None else f"{start.source or start.name} (sha256 {start.sha256[:16]}...)"
        raise ConfigError(
            f"this is not the interrupted training run: it began with {began}, not with {init.origin.name} (sha256 "
            f"{init.sha256[:16]}...); resume it from what it began with, or start a new one with another --output"
        )


def steps_left(
    run: Run, workers: Workers, stop: Callable[[], bool] = lambda: False
) -> tuple[AnyInitialization | None, Iterator[MetaStep | NumberStep]]:
    """The checkpoint, or None if training starts from random weights, and the outer steps from there.

    stop: ends the measuring of a point of the curve; see `curve.Points`.
    """
    if isinstance(run.recipe, Regression):
        return _on_numbers(run, run.recipe, workers)
    return _on_pictures(run, run.recipe, workers, stop)


def _on_pictures(
    run: Run, recipe: Recipe, workers: Workers, stop: Callable[[], bool]
) -> tuple[Initialization | None, Iterator[MetaStep]]:
    start = load_checkpoint(run.checkpoint) if run.checkpoint.exists() else None
    command = start.provenance.command if start else run.command
    steps = meta_train(recipe, tasks_of(run, recipe), start=start, workers=workers, device=run.device, command=command)
    points = None
    if (spacing := curve.spacing(run.evaluate_every, recipe.meta.meta_steps)) and curve.ways(recipe):
        points = curve.Points(recipe, every=spacing, root=run.root, seed=run.seed, workers=workers, stop=stop)
    return start, curve.measured(steps, start, points)


def _on_numbers(
    run: Run, recipe: Regression, workers: Workers
) -> tuple[NumberInitialization | None, Iterator[NumberStep]]:
    start = load_checkpoint_of_numbers(run.checkpoint) if run.checkpoint.exists() else None
    command = start.provenance.command if start else run.command
    steps = meta_train_on_numbers(recipe, seed=run.seed, start=start, workers=workers, command=command)
    return start, curve.measured(steps, start)


def tasks_of(run: Run, recipe: Recipe) -> TaskSampler:
    """The tasks of a run; its data set is decoded into the cache if it is not there yet.

    Raises DataError if it has fewer training classes than a task takes.
    """
    data, n_way = open_dataset(recipe.data, recipe.preprocessing, "train", run.root), recipe.meta.n_way
    if data.n_classes < n_way:
        raise DataError(
            f"{recipe.data.name}: a task takes {n_way} training classes, and there are {data.n_classes}; add some, "
            "divide them by another --split, or set meta.n_way to fewer, from 2"
        )
    return TaskSampler(data=data, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot, seed=run.seed)


def _pretrain(run: Run, recipe: Recipe, tasks: TaskSampler, made: Provenance, on_event: Listener) -> None:
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
    save_checkpoint(pretraining.pretrained(recipe, epoch, tasks.data.n_classes, made), run.checkpoint)
    run.pretraining.unlink()
