"""The options that decide which initialization comes out: the recipe they make, and the command they are kept as."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fewshot_cli.options import LEARNING, Seed, Trainable
from fewshot_sdk.algorithms import ALGORITHMS, Outer
from fewshot_sdk.errors import ConfigError

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.initialization import Initialization
    from fewshot_sdk.config.recipe import MetaLoop, Recipe
    from fewshot_sdk.config.regression import Regression

    AlgorithmName = str
else:
    AlgorithmName = Literal[tuple(ALGORITHMS)]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What decides which initialization comes out; None is the preset's. In the order in which it is recorded."""

    preset: Annotated[
        str,
        typer.Option(
            help="omniglot, photo, glyphs, omniglot-5way, omniglot-20way, mini-imagenet-5way, omniglot-protonet; of "
            "numbers sine."
        ),
    ]
    backbone: Annotated[
        str | None,
        typer.Option(
            help="In place of the preset's network: timm:NAME or timm:user/repo, a model of the timm library with its "
            "weights from the Hub and pictures as it expects them; needs fewshot-sdk[timm].",
            rich_help_panel=LEARNING,
        ),
    ] = None
    algorithm: Annotated[
        AlgorithmName | None,
        typer.Option(
            help="In place of the preset's, reptile. All but reptile and fomaml have SGD inside and Adam outside.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    trainable: Trainable = None
    tail_shots: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Pictures of each class kept for the last mini-batch of a task; 0: it draws like the others. "
            "Default: 0 for fomaml, half for maml and its kin.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    replacement: Annotated[
        bool,
        typer.Option(
            "--replacement",
            help="Draw each mini-batch from all pictures of a task anew, in place of passes over them, "
            "where one is not all of them.",
            rich_help_panel=LEARNING,
        ),
    ] = False
    pretrain: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Epochs of supervised training, to tell all training classes apart, before the outer steps; 0: none. "
            "Default: the preset's.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    outer: Annotated[
        Outer | None,
        typer.Option(
            help="What takes the outer steps: sgd goes a part of the way; the others are PyTorch's, momentum 0.9. "
            "Default: the preset's or the algorithm's.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    step_size: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="The first outer step's: a part of the way, or a rate. Default: the preset's or the optimizer's.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    tasks_per_step: Annotated[
        int | None,
        typer.Option(min=1, help="1 is serial Reptile. Default: the preset's.", rich_help_panel=LEARNING),
    ] = None
    meta_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Outer steps. Default: the preset's. 0: pre-training alone, as a baseline."),
    ] = None
    seed: Seed = 0

    @property
    def command(self) -> str:
        """What repeats this training: each option that is set."""
        words = "fewshot meta-train"
        for field in fields(TrainingOptions):
            value = getattr(self, field.name)
            if value is not None and value is not False:
                words += f" --{field.name.replace('_', '-')}" + ("" if value is True else f" {value}")
        return words

    def recipe(self, network: Initialization | None = None) -> Recipe | Regression:
        """The preset with what is asked for in its place. network: the timm model that --backbone names.

        Without an outer step no head is learned for the tasks: a dense one gives way to zeros.
        """
        from fewshot_sdk.config.presets import moving_only, preset, pretrained_for, with_algorithm
        from fewshot_sdk.config.regression import PRESETS, by_algorithm

        if self.preset in PRESETS:
            numbers = PRESETS[self.preset]
            if self.algorithm is not None:
                numbers = by_algorithm(numbers, self.algorithm)
            return numbers.replace(meta=self._outer_loop(numbers))
        recipe = preset(self.preset)
        if network is not None:
            recipe = _on(network, recipe)
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
        asked: dict[str, float | None] = {
            "tail_shots": self.tail_shots,
            "replacement": self.replacement or None,
            "meta_steps": self.meta_steps,
            "tasks_per_step": self.tasks_per_step,
        }
        if self.step_size is not None:
            final = meta.final_step_size * self.step_size / meta.step_size
            asked |= {"step_size": self.step_size, "final_step_size": final}
        meta = meta.replace(**{name: value for name, value in asked.items() if value is not None})
        drawn = meta.n_way * (meta.k_shot - meta.tail_shots)
        if meta.replacement and recipe.inner.batch_size >= drawn:
            raise ConfigError(
                f"--replacement changes nothing here: each mini-batch is all {drawn} examples that a task of "
                f"{meta.algorithm} draws from; leave it out"
            )
        return meta

    def _check_for_pretraining_alone(self, recipe: Recipe) -> None:
        outside = (self.algorithm, self.tail_shots, self.outer, self.step_size, self.tasks_per_step)
        if recipe.pretraining is None or self.replacement or any(word is not None for word in outside):
            raise ConfigError(
                "--meta-steps 0 is for pre-training alone: it takes --pretrain EPOCHS, or a preset that pre-trains, "
                "and no --algorithm, --tail-shots, --replacement, --outer, --step-size or --tasks-per-step"
            )


def _on(network: Initialization, recipe: Recipe) -> Recipe:
    from fewshot_sdk.artifacts.timm import recipe_for
    from fewshot_sdk.config.recipe import Timm

    backbone = network.recipe.backbone
    if not isinstance(backbone, Timm):
        raise ConfigError("the checkpoint is of a training without --backbone; resume it as it was begun")
    named = recipe.replace(preset=f"{recipe.preset}-{backbone.name}")
    return recipe_for(named, backbone, network.recipe.preprocessing)
