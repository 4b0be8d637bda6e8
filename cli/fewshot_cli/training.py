"""Options that determine the initialization, the recipe they make, and the command that records them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fewshot_cli.options import DATA, LEARNING, Changes, Seed, SkipSmall, Trainable
from fewshot_cli.own_data import last_part, on_data
from fewshot_sdk.algorithms import ALGORITHMS, Outer
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import RECIPE
from fewshot_sdk.storage.rendering import encodable

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.initialization import Initialization
    from fewshot_sdk.config.recipe import MetaLoop, Recipe
    from fewshot_sdk.config.recipe_settings import AnyRecipe
    from fewshot_sdk.config.regression import Regression

    AlgorithmName = str
else:
    AlgorithmName = Literal[tuple(ALGORITHMS)]

BESIDE_THE_RECIPE = (
    "init",
    "backbone",
    "data",
    "seed",
)  # what a command records beside a recipe of one's own, which holds all else


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options that determine the initialization, in the order of the recorded command; None: the preset's."""

    preset: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="omniglot, photo, glyphs, omniglot-5way, omniglot-20way, mini-imagenet-5way, mini-imagenet-residual, "
            "omniglot-protonet; for numbers: sine.",
        ),
    ] = None
    recipe_file: Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            show_default=False,
            help="Instead of a preset: a TOML file with all settings, such as `fewshot recipe PRESET` prints.",
        ),
    ] = None
    changes: Changes = None
    init: Annotated[
        str | None,
        typer.Option(
            help="Initialization to go on from: a bundled one's name, a folder, user/repo[@revision] on the Hugging "
            "Face Hub or timm:NAME. Its network, how it reads pictures and what its optimizer remembers stay; its "
            "recipe is the default. Without it: random weights.",
            show_default=False,
        ),
    ] = None
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Instead of the preset's network: timm:NAME or timm:user/repo, a model of the timm library with "
            "weights from the Hub, and pictures as it expects them; needs fewshot-sdk[timm].",
            rich_help_panel=LEARNING,
        ),
    ] = None
    algorithm: Annotated[
        AlgorithmName | None,
        typer.Option(
            help="Default: the preset's, mostly reptile. All but reptile and fomaml use SGD in the inner loop and Adam "
            "in the outer.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    trainable: Trainable = None
    tail_shots: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Pictures per class reserved for a task's last mini-batch; 0: it is drawn like the others. "
            "Default: 0 for reptile and fomaml, half of them for the others.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    replacement: Annotated[
        bool,
        typer.Option(
            "--replacement",
            help="Draw each mini-batch from all pictures of a task instead of making passes over them; for "
            "mini-batches smaller than the task.",
            rich_help_panel=LEARNING,
        ),
    ] = False
    pretrain: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Epochs of supervised training on all training classes before the outer steps; 0: none. Default: the "
            "preset's.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    outer: Annotated[
        Outer | None,
        typer.Option(
            help="Outer optimizer: sgd is plain descent; the others are PyTorch's (momentum: 0.9). Default: the "
            "preset's or the algorithm's.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    step_size: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Size of the first outer step: a fraction of the way, or a learning rate. Default: the preset's or "
            "the optimizer's.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    tasks_per_step: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tasks per outer step; 1 is serial Reptile. Default: the preset's.", rich_help_panel=LEARNING
        ),
    ] = None
    meta_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Outer steps; 0: pre-training only, as a baseline. Default: the preset's."),
    ] = None
    data: Annotated[
        str | None,
        typer.Option(
            help="omniglot, mini-imagenet or glyphs, or a path: a folder or zip of class folders, or a CSV with the "
            "columns path, label and, if you like, part. Default: the preset's.",
            rich_help_panel=DATA,
        ),
    ] = None
    split: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIN/VAL/TEST",
            help="Shares of your own classes to train on, to measure on during training, and to test on, unless they "
            "are in folders train, val and test. Default: 0.7/0.15/0.15.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None
    split_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of that division. Default: 0.", show_default=False, rich_help_panel=DATA),
    ] = None
    skip_small: SkipSmall = False
    seed: Seed = 0

    @property
    def command(self) -> str:
        """The command that repeats this training: every option that is set, or the recipe in the training's folder.

        Of a path it has the last part only.
        """
        own = self.preset is None or bool(self.changes)
        words = "fewshot meta-train" + f" --recipe {RECIPE}" * own
        for field in fields(TrainingOptions):
            told = field.name in BESIDE_THE_RECIPE if own else field.name not in ("recipe_file", "changes")
            value = getattr(self, field.name) if told else None
            if field.name == "data" and value is not None:
                value = last_part(value)
            if value is not None and value is not False:
                option, text = f"--{field.name.replace('_', '-')}", shlex.quote(encodable(str(value)))
                words += f" {option}" + ("" if value is True else f"={text}" if text[0] == "-" else f" {text}")
        return words

    @cached_property
    def base(self) -> AnyRecipe:
        """The recipe that the other options change: a file's, or a preset's."""
        return self._base()

    def _base(self) -> AnyRecipe:
        from fewshot_sdk.config.presets import preset
        from fewshot_sdk.config.regression import NUMBER_PRESETS
        from fewshot_sdk.storage.recipes import read_recipe

        if self.recipe_file is not None:
            return read_recipe(self.recipe_file)
        assert self.preset is not None
        return NUMBER_PRESETS[self.preset] if self.preset in NUMBER_PRESETS else preset(self.preset)

    def recipe(self, network: Initialization | None = None) -> AnyRecipe:
        """The base with these options applied, --set last. network: the timm model that --backbone names."""
        from fewshot_sdk.config.regression import Regression

        base = self.base
        made = self._for_numbers(base) if isinstance(base, Regression) else self._for_pictures(base, network)
        return changed(made, self.changes)

    def _for_numbers(self, numbers: Regression) -> Regression:
        from fewshot_sdk.config.regression import by_algorithm

        if self.algorithm is not None:
            numbers = by_algorithm(numbers, self.algorithm)
        return numbers.replace(meta=self._outer_loop(numbers))

    def _for_pictures(self, recipe: Recipe, network: Initialization | None) -> Recipe:
        """Without outer steps no head is learned for the tasks, so a dense head becomes a zero head."""
        from fewshot_sdk.config.presets import moving_only, pretrained_for, with_algorithm

        if network is not None:
            recipe = self._on(network, recipe)
        recipe = on_data(recipe, self.data, self.changes or [])
        if self.algorithm is not None:
            recipe = with_algorithm(recipe, self.algorithm)
        if self.trainable is not None:
            recipe = moving_only(recipe, self.trainable)
        if self.pretrain is not None:
            recipe = pretrained_for(recipe, self.pretrain)
        head = recipe.head
        if self.meta_steps == 0:
            self._check_for_pretraining_alone(recipe)
            head = "zero" if head == "dense" else head
        return recipe.replace(head=head, meta=self._outer_loop(recipe))

    def _outer_loop(self, recipe: Recipe | Regression) -> MetaLoop:
        from fewshot_sdk.config.presets import with_outer

        meta = recipe.meta if self.outer is None else with_outer(recipe.meta, self.outer)
        changes: dict[str, float | None] = {
            "tail_shots": self.tail_shots,
            "replacement": self.replacement or None,
            "meta_steps": self.meta_steps,
            "tasks_per_step": self.tasks_per_step,
        }
        if self.step_size is not None:
            final = meta.final_step_size * self.step_size / meta.step_size
            changes |= {"step_size": self.step_size, "final_step_size": final}
        meta = meta.replace(**{name: value for name, value in changes.items() if value is not None})
        drawn = meta.n_way * (meta.k_shot - meta.tail_shots)
        if meta.replacement and recipe.inner.batch_size >= drawn:
            raise ConfigError(
                f"--replacement changes nothing here: each mini-batch is all {drawn} examples that a task of "
                f"{meta.algorithm} draws from; leave it out"
            )
        return meta

    def _check_for_pretraining_alone(self, recipe: Recipe) -> None:
        outer = (self.algorithm, self.tail_shots, self.outer, self.step_size, self.tasks_per_step)
        if recipe.pretraining is None or self.replacement or any(value is not None for value in outer):
            raise ConfigError(
                "--meta-steps 0 means pre-training only: it takes --pretrain EPOCHS, or a preset that pre-trains, "
                "and no --algorithm, --tail-shots, --replacement, --outer, --step-size or --tasks-per-step"
            )

    def _on(self, network: Initialization, recipe: Recipe) -> Recipe:
        """The recipe on a network that is trained already; a file's must be of that network, a preset's need not."""
        from fewshot_sdk.artifacts.timm import recipe_for
        from fewshot_sdk.config.presets import on_network
        from fewshot_sdk.config.recipe import Timm

        backbone = network.recipe.backbone
        if self.backbone is not None and not isinstance(backbone, Timm):
            raise ConfigError(
                "the checkpoint belongs to a training without --backbone; resume it with the options it began with"
            )
        if recipe.backbone == backbone:
            return recipe.replace(pretraining=None)
        if isinstance(backbone, Timm):
            named = recipe.replace(preset=f"{recipe.preset}-{backbone.name}")
            return recipe_for(named, backbone, network.recipe.preprocessing)
        return recipe if self.preset is None else on_network(recipe, network.recipe)


def changed(recipe: AnyRecipe, changes: list[str] | None) -> AnyRecipe:
    """The recipe after each --set."""
    from fewshot_sdk.config.recipe_settings import with_settings

    try:
        return with_settings(recipe, changes or [])
    except ConfigError as error:
        raise ConfigError(f"--set: {error}") from None
