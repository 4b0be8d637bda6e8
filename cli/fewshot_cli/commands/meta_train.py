"""`fewshot meta-train`: from a preset to an initialization, in this process or in several that share the tasks."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fewshot_cli.display import at_step, held_out_part, send, watched
from fewshot_cli.group import app
from fewshot_cli.jobs import run_job
from fewshot_cli.options import RUNNING, WRITING, Root, WorkerCount, options
from fewshot_cli.output import launched, say
from fewshot_cli.own_data import warn_of_few, warn_of_seen, with_data
from fewshot_cli.processes import Job, train_alone, train_in_ranks
from fewshot_cli.training import TrainingOptions
from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.meta.trackers import TrackerName, check_installed
from fewshot_sdk.storage.siblings import best_of

if TYPE_CHECKING:
    import torch

    from fewshot_sdk.artifacts.initialization import Initialization
    from fewshot_sdk.config.recipe_settings import AnyRecipe
    from fewshot_sdk.config.records import Metric
    from fewshot_sdk.meta.preparation import Run, Unfinished


@dataclass(frozen=True, kw_only=True)
class MetaTrainOptions(TrainingOptions):
    """Options of `fewshot meta-train`."""

    output: Annotated[Path, typer.Option(help="Folder to write the initialization to.")]
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue from OUTPUT.checkpoint, to the same bits as without a break; its recipe is the default.",
        ),
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
    keep_best: Annotated[
        bool,
        typer.Option(
            "--keep-best",
            help="Keep the initialization with the best accuracy of the curve in OUTPUT-best.",
            rich_help_panel=WRITING,
        ),
    ] = False
    tracker: Annotated[
        TrackerName | None,
        typer.Option(
            help="Where to show recipe, metrics and curve besides metrics.jsonl; needs fewshot-sdk[NAME].",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None
    json: Annotated[
        bool,
        typer.Option("--json", help="Print the progress on stdout, a JSON object per line.", rich_help_panel=WRITING),
    ] = False

    def __post_init__(self) -> None:
        if self.preset is not None and self.recipe_file is not None:
            raise typer.BadParameter("--preset and --recipe each name a recipe; give one of them")
        if self.preset is None and self.recipe_file is None and self.init is None and not self.resume:
            raise typer.BadParameter(
                "missing --preset NAME, --recipe FILE or --init NAME; `fewshot recipe` lists presets"
            )
        if self.init is not None and self.backbone is not None:
            raise typer.BadParameter("--init and --backbone each name a network; give one of them")
        if self.backbone is not None and not self.backbone.startswith("timm:"):
            raise typer.BadParameter("--backbone takes timm:NAME")
        if self.step_size == 0:
            raise typer.BadParameter("--step-size must be above 0 and at most 1: with 0 nothing is learned")

    def run(self) -> tuple[Run, Initialization | None]:
        """The requested training, and the weights it begins with unless they are random."""
        from fewshot_sdk.config.recipe import Recipe
        from fewshot_sdk.config.regression import Regression
        from fewshot_sdk.meta.curve import ways
        from fewshot_sdk.meta.preparation import Run

        if isinstance(self.base, Regression):
            self._check_for_numbers()
        network = self._network
        recipe, root = self.recipe(network), self.root
        if isinstance(recipe, Recipe):
            recipe, root = with_data(
                recipe, self.data, root, split=self.split, split_seed=self.split_seed, skip_small=self.skip_small,
                rotations=self._asks_for("data.rotations"), aloud=not self.json,
            )  # fmt: skip
            if self.evaluate_every != 0 and not ways(recipe):
                warn_of_few(recipe)
            if network is None and recipe.backbone.comes_trained and not self.resume:
                say(
                    f"warning: {recipe.preset} begins with random weights here; --init names trained ones to begin with"
                )
            if network is not None and (own := recipe.data.own):
                warn_of_seen((*own.val, *own.test), self.init or "", network.named_classes - network.own_classes)
        source = network.source if network else ""  # with its commit
        backbone = self.backbone and (source or self.backbone)
        init = self.init and (source or Path(self.init).name)
        seed = self.seed or (self._unfinished.seed if self._unfinished else 0)
        recorded = replace(self, init=init, backbone=backbone, meta_steps=recipe.meta.meta_steps, seed=seed)
        run = Run(
            recipe=recipe,
            output=self.output,
            root=root,
            seed=recorded.seed,
            checkpoint_every=self.checkpoint_every,
            evaluate_every=self.evaluate_every,
            device=self._device(recipe),
            command=recorded.command,
            keep_best=self.keep_best,
            tracker=self.tracker,
        )
        if self.keep_best and held_out_part(recipe) == "test":
            say(
                f"warning: {recipe.preset} has no validation classes, so --keep-best chooses by test classes; the "
                "accuracy of the chosen initialization on them is too high to report"
            )
        return run, None if self._from_checkpoint else network

    def _asks_for(self, setting: str) -> bool:
        """Whether a setting is a wish of the user's and not of a preset for other data."""
        return self.preset is None or any(change.partition("=")[0].strip() == setting for change in self.changes or [])

    def _check_for_numbers(self) -> None:
        for_pictures = (
            self.root,
            self.data,
            self.split,
            self.split_seed is not None,
            self.skip_small,
            self.evaluate_every,
            self.init,
            self.backbone,
            self.trainable,
            self.pretrain,
        )
        if any(for_pictures) or self.device == "cuda":  # --evaluate-every 0 and --pretrain 0 request nothing
            raise ConfigError(
                f"{self.base.preset} is for numbers: leave out --root, --data, --split, --split-seed, --skip-small, "
                "--evaluate-every, --device, --init, --backbone, --trainable, --pretrain"
            )

    def _base(self) -> AnyRecipe:
        if self._unfinished:
            return self._unfinished.recipe
        if self.preset is None and self.recipe_file is None:
            assert self._network is not None
            return self._network.recipe.replace(pretraining=None)
        return super()._base()

    @cached_property
    def _unfinished(self) -> Unfinished | None:
        """The training that --resume continues, if nothing else names its recipe."""
        from fewshot_sdk.meta.preparation import unfinished

        named = self.preset is not None or self.recipe_file is not None
        return unfinished(self.output) if self.resume and not named else None

    @property
    def _from_checkpoint(self) -> bool:
        """Whether a checkpoint stands for a timm model that is on the Hub."""
        from fewshot_sdk.meta.preparation import checkpoint_of

        return (self.init or self.backbone or "").startswith("timm:") and checkpoint_of(self.output).exists()

    @cached_property
    def _network(self) -> Initialization | None:
        """What --init or --backbone names."""
        name = self.backbone if self.init is None else self.init
        if name is None:
            return None
        import fewshot_sdk
        from fewshot_sdk.artifacts.initialization import load_checkpoint
        from fewshot_sdk.meta.preparation import checkpoint_of

        return load_checkpoint(checkpoint_of(self.output)) if self._from_checkpoint else fewshot_sdk.load(name)

    def _device(self, recipe: AnyRecipe) -> torch.device | None:
        """The GPU to train on, or None. Raises ConfigError if one is requested but not found."""
        from fewshot_sdk.config.recipe import Recipe
        from fewshot_sdk.engine.processors import usable_gpu
        from fewshot_sdk.meta.training import trial_step

        trial = None
        if isinstance(recipe, Recipe) and ALGORITHMS[recipe.meta.algorithm].side_by_side:
            trial = partial(trial_step, recipe)
        if self.device == "cpu" or (self.device == "auto" and trial is None):
            return None
        gpu, reason = usable_gpu(trial)
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
    from fewshot_sdk.storage.metrics import highest

    if given.tracker is not None:
        check_installed(given.tracker)
    if launched():
        last = train_in_ranks(given.output, given.run, given.workers, json=given.json, resume=given.resume)
        _tell_end(given, last.recipe, highest(last.metrics) if given.keep_best else None)
        return
    with reserved(given.output, resume=given.resume, keep_best=given.keep_best):
        run, init = given.run()
        try:
            with watched("pre-training", json=given.json, plain_seconds=0) as listen:
                prepare(run, init, listen)
        except KeyboardInterrupt:
            if run.pretraining.exists():
                say(f"the epochs done are saved in {run.pretraining}; --resume continues")
            raise
        recipe, meta = run.recipe, run.recipe.meta
        inner_steps = meta.meta_steps * meta.tasks_per_step * recipe.inner.steps
        workers = 1 if run.device or not meta.meta_steps else given.workers
        # steps on numbers are too small for workers, however many there are; those of a large network take a second
        worth = 0 if isinstance(recipe, Regression) else inner_steps * (1000 if recipe.backbone.many_threads else 1)
        tell = (lambda _: None) if given.json else say
        best = run_job(train_alone, Job(run=run, json=given.json), workers, meta.tasks_per_step, worth, tell)
    _tell_end(given, recipe, best)


def _tell_end(given: MetaTrainOptions, recipe: AnyRecipe, best: Metric | None) -> None:
    """Say what was written. best: the best point of the curve, if that is kept."""
    from fewshot_sdk.config.regression import Regression

    if given.json:
        send("done", step=recipe.meta.meta_steps, total=recipe.meta.meta_steps, output=str(given.output))
        return
    if best is not None:
        folder = best_of(given.output)
        kept = f"kept in {folder}" if folder.exists() else "not kept: it came before --keep-best"
        say(f"best {held_out_part(recipe)} accuracy: {at_step(best)}, {kept}")
    support = "points.csv" if isinstance(recipe, Regression) else "DIR"
    quoted = shlex.quote(str(given.output))
    say(f"wrote {given.output}; next: fewshot adapt --init {quoted} --support {support} --output MODEL")
