"""`fewshot meta-train`: from a preset to an initialization, in this process or in several that share the tasks."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fewshot_cli.group import app
from fewshot_cli.jobs import only_the_first, ranks, run_job
from fewshot_cli.options import RUNNING, WRITING, Root, WorkerCount, options
from fewshot_cli.output import Count, counted, launched, say
from fewshot_cli.signals import stoppable
from fewshot_cli.training import TrainingOptions
from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from fewshot_sdk.artifacts.initialization import AnyInitialization, Initialization
    from fewshot_sdk.config.recipe import Recipe
    from fewshot_sdk.config.regression import Regression
    from fewshot_sdk.engine.workers import Workers
    from fewshot_sdk.meta.events import Event
    from fewshot_sdk.meta.preparation import Run


@dataclass(frozen=True, kw_only=True)
class MetaTrainOptions(TrainingOptions):
    """Options of `fewshot meta-train`."""

    output: Annotated[Path, typer.Option(help="Folder to write the initialization to.")]
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from OUTPUT.checkpoint, to the same bits as without a break.")
    ] = False
    workers: WorkerCount = None
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="auto: a GPU if there is one, which needs no workers.", rich_help_panel=RUNNING),
    ] = "auto"
    root: Root = None
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Outer steps between saves to OUTPUT.checkpoint.", rich_help_panel=WRITING)
    ] = 200
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Outer steps between points of curve.png, each from 200 tasks; 0: none. Default: a 20th of all steps.",
            rich_help_panel=WRITING,
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.backbone is not None and not self.backbone.startswith("timm:"):
            raise typer.BadParameter("--backbone takes timm:NAME")
        if self.step_size == 0:
            raise typer.BadParameter("--step-size must be above 0 and at most 1: with 0 nothing is learned")

    def run(self) -> tuple[Run, Initialization | None]:
        """The requested training, and the weights it begins with unless they are random."""
        from fewshot_sdk.config.regression import NUMBER_PRESETS
        from fewshot_sdk.meta.preparation import Run

        if self.preset in NUMBER_PRESETS:
            self._check_for_numbers()
        network = self._network()
        recipe = self.recipe(network)
        source = network.source if network and network.source else self.backbone  # with its commit
        recorded = replace(self, backbone=source, meta_steps=recipe.meta.meta_steps)
        run = Run(
            recipe=recipe,
            output=self.output,
            root=self.root,
            seed=self.seed,
            checkpoint_every=self.checkpoint_every,
            evaluate_every=self.evaluate_every,
            device=self._device(recipe),
            command=recorded.command,
        )
        return run, network

    def _check_for_numbers(self) -> None:
        for_pictures = (self.root, self.evaluate_every, self.backbone, self.trainable, self.pretrain)
        if any(for_pictures) or self.device == "cuda":  # --evaluate-every 0 and --pretrain 0 request nothing
            raise ConfigError(
                f"{self.preset} is for numbers: leave out --root, --evaluate-every, --device, --backbone, --trainable, "
                "--pretrain"
            )

    def _network(self) -> Initialization | None:
        """The timm model of --backbone: from the checkpoint if there is one, else from the Hub."""
        if self.backbone is None:
            return None
        import fewshot_sdk
        from fewshot_sdk.artifacts.initialization import load_checkpoint
        from fewshot_sdk.meta.preparation import checkpoint_of

        checkpoint = checkpoint_of(self.output)
        return load_checkpoint(checkpoint) if checkpoint.exists() else fewshot_sdk.load(self.backbone)

    def _device(self, recipe: Recipe | Regression) -> torch.device | None:
        """The GPU to train on, or None. Raises ConfigError if one is requested but not found."""
        from fewshot_sdk.config.recipe import Recipe
        from fewshot_sdk.engine.processors import usable_gpu

        side_by_side = isinstance(recipe, Recipe) and ALGORITHMS[recipe.meta.algorithm].side_by_side
        if self.device == "cpu" or (self.device == "auto" and not side_by_side):
            return None
        gpu, reason = usable_gpu()
        if gpu is None and self.device == "cuda":
            raise ConfigError(f"--device cuda: {reason}; leave the option out to use the processor")
        if gpu is None and "cannot" in reason:
            say(f"{reason}; using the processor")
        return gpu


@app.command("meta-train")
@options(MetaTrainOptions)
def meta_train(given: MetaTrainOptions) -> None:
    """Meta-train an initialization, by default with Reptile. Ctrl-C saves a checkpoint; --resume continues from it."""
    from fewshot_sdk.config.regression import Regression
    from fewshot_sdk.meta.preparation import prepare
    from fewshot_sdk.meta.run import reserved

    if launched():
        support = "points.csv" if isinstance(_train_in_ranks(given).recipe, Regression) else "DIR"
        say(f"wrote {given.output}; next: fewshot adapt --init {given.output} --support {support} --output MODEL")
        return
    with reserved(given.output, resume=given.resume):
        run, weights = given.run()
        with counted("pre-training", plain_seconds=0) as count:
            prepare(run, weights, shown(count))
        recipe, meta = run.recipe, run.recipe.meta
        inner_steps = meta.meta_steps * meta.tasks_per_step * recipe.inner.steps
        of_numbers = isinstance(recipe, Regression)
        workers = 1 if run.device or not meta.meta_steps else given.workers
        worth = 0 if of_numbers else inner_steps  # steps on numbers are too small for workers, however many there are
        run_job(_train, run, workers, meta.tasks_per_step, worth)
    support = "points.csv" if of_numbers else "DIR"
    say(f"wrote {run.output}; next: fewshot adapt --init {run.output} --support {support} --output MODEL")


def _train(workers: Workers, run: Run) -> None:
    """Train, in one of the workers.

    Raises SystemExit with 128 + the signal if one came before the end: a result would have to wait for a parent that
    is exiting, too.
    """
    from fewshot_sdk.meta.run import train

    with stoppable(patient=workers.size > 1) as signals, counted("meta-training") as count:
        last = train(run, workers=workers, stop=lambda: bool(signals), on_event=shown(count))
    _check_finished(last, signals)


def _train_in_ranks(given: MetaTrainOptions) -> AnyInitialization:
    """Train as one of the ranks that torchrun started; only the first returns."""
    from fewshot_sdk.engine.torchrun import job, restarted
    from fewshot_sdk.meta.together import train_together

    with ranks(given.workers) as workers:
        with stoppable(patient=True) as signals, counted("training") as count:
            last = train_together(
                workers,
                given.output,
                given.run,
                job=job(),
                resume=given.resume or restarted(),
                stop=lambda: bool(signals),
                on_event=shown(count),
            )
        _check_finished(last, signals)
    only_the_first(workers)
    return last


def _check_finished(last: AnyInitialization, signals: list[int]) -> None:
    if last.provenance.meta_steps_done < last.recipe.meta.meta_steps:
        raise SystemExit(128 + (signals or [signal.SIGTERM])[0])


def shown(count: Count) -> Callable[[Event], None]:
    """A listener that prints a training's events and counts its epochs or steps."""
    from fewshot_sdk.meta.events import Began, Kept, Reading, Unsaved
    from fewshot_sdk.meta.pretraining import Epoch
    from fewshot_sdk.meta.training import MetaStep

    def show(event: Event) -> None:
        match event:
            case Reading():
                say(f"reading {event.data}")
            case Began():
                if event.work == "pre-training":
                    say(f"pre-training for {event.total - event.done} epochs; the time left is known after the first")
                count(event.done, event.total, "")
            case Epoch():
                count(event.done, event.epochs, f"loss {event.loss:.3f}")
            case MetaStep():
                count(event.done, event.meta_steps, f"loss {event.loss:.3f}")
            case Unsaved():
                say(f"warning: no {event.path.name}: {event.reason}; training continues")
            case Kept():
                say(
                    f"stopped after {event.done} of {event.meta_steps} outer steps, saved in {event.checkpoint}; "
                    "--resume continues"
                )

    return show
