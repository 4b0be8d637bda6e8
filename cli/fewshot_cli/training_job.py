"""What `fewshot meta-train` was asked for: the command's words, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from fewshot_sdk import Recipe, TaskSampler
    from fewshot_sdk.algorithms import Algorithm, Outer, Part
    from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
    from fewshot_sdk.config.regression import Regression

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """The command's words, parsed."""

    preset: str
    output: Path
    root: Path | None
    algorithm: Algorithm | None
    backbone: str | None
    trainable: Part | None
    tail_shots: int | None
    replacement: bool
    pretrain: int | None
    outer: Outer | None
    step_size: float | None
    tasks_per_step: int | None
    meta_steps: int | None
    seed: int
    checkpoint_every: int
    evaluate_every: int | None
    resume: bool
    device: Device

    @property
    def of_numbers(self) -> bool:
        """Whether the preset learns from numbers, not from pictures."""
        from fewshot_sdk.config.regression import PRESETS

        return self.preset in PRESETS

    @property
    def checkpoint(self) -> Path:
        """Where an unfinished training is kept."""
        return self.output.with_name(f"{self.output.name}.checkpoint")

    @property
    def pretraining(self) -> Path:
        """Where an unfinished pre-training is kept."""
        return self.output.with_name(f"{self.output.name}.pretraining")

    def command(self, recipe: Recipe | Regression) -> str:
        """What repeats this training."""
        words = f"fewshot meta-train --preset {self.preset}"
        if self.backbone is not None:
            words += f" --backbone {self.backbone}"
        if self.algorithm is not None:
            words += f" --algorithm {self.algorithm}"
        if self.trainable is not None:
            words += f" --trainable {self.trainable}"
        if self.tail_shots is not None:
            words += f" --tail-shots {self.tail_shots}"
        if self.replacement:
            words += " --replacement"
        options = {
            "pretrain": self.pretrain,
            "outer": self.outer,
            "step-size": self.step_size,
            "tasks-per-step": self.tasks_per_step,
        }
        words += "".join(f" --{name} {value}" for name, value in options.items() if value is not None)
        return f"{words} --meta-steps {recipe.meta.meta_steps} --seed {self.seed}"

    def tasks(self, recipe: Recipe) -> TaskSampler:
        """The stream of tasks that it trains on."""
        import fewshot_sdk

        data = fewshot_sdk.open_dataset(recipe.data, recipe.preprocessing, "train", self.root)
        return fewshot_sdk.TaskSampler(data=data, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot, seed=self.seed)

    def on(self) -> torch.device | None:
        """The GPU to train on, or None. Raises ConfigError if one is asked for and there is none."""
        import torch

        if self.device == "auto" and not ALGORITHMS[self.recipe().meta.algorithm].side_by_side:
            return None
        if self.device == "cpu" or not torch.cuda.is_available():
            if self.device == "cuda":
                raise ConfigError("--device cuda: PyTorch finds no GPU here; leave the option out to use the processor")
            return None
        return torch.device("cuda")

    def recipe(self) -> Recipe:
        """The preset, by the algorithm and at the length asked for.

        Without an outer step no head is learned for the tasks: a dense one gives way to zeros.
        """
        import fewshot_sdk
        from fewshot_sdk.config.presets import moving_only, pretrained_for, with_algorithm

        recipe = fewshot_sdk.preset(self.preset)
        if self.backbone is not None:
            recipe = self._on(recipe, self.backbone)
        if self.algorithm is not None:
            recipe = with_algorithm(recipe, self.algorithm)
        if self.trainable is not None:
            recipe = moving_only(recipe, self.trainable)
        if self.pretrain is not None:
            recipe = pretrained_for(recipe, self.pretrain)
        outside = (self.algorithm, self.tail_shots, self.outer, self.step_size, self.tasks_per_step)
        named = self.replacement or any(word is not None for word in outside)
        if self.meta_steps == 0 and (recipe.pretraining is None or named):
            raise ConfigError(
                "--meta-steps 0 is for pre-training alone: it takes --pretrain EPOCHS, or a preset that pre-trains, "
                "and no --algorithm, --tail-shots, --replacement, --outer, --step-size or --tasks-per-step"
            )
        head = "zero" if self.meta_steps == 0 and recipe.head == "dense" else recipe.head
        return recipe.replace(head=head, meta=self._asked(recipe.meta, recipe.inner))

    def regression(self) -> Regression:
        """The same of a preset for numbers. Raises ConfigError for words that are for pictures alone."""
        from fewshot_sdk.config.regression import PRESETS, by_algorithm

        for_pictures = (self.root, self.evaluate_every, self.backbone, self.trainable, self.pretrain)
        if any(for_pictures) or self.device == "cuda":  # --evaluate-every 0 and --pretrain 0 ask for nothing
            raise ConfigError(
                f"{self.preset} is for numbers: leave out --root, --evaluate-every, --device, --backbone, --trainable, "
                "--pretrain"
            )
        recipe = PRESETS[self.preset]
        if self.algorithm is not None:
            recipe = by_algorithm(recipe, self.algorithm)
        return recipe.replace(meta=self._asked(recipe.meta, recipe.inner))

    def _asked(self, meta: MetaLoop, inner: InnerLoop) -> MetaLoop:
        from fewshot_sdk.config.presets import with_outer

        if self.outer is not None:
            meta = with_outer(meta, self.outer)
        asked: dict[str, float | None] = {
            "tail_shots": self.tail_shots,
            "replacement": self.replacement or None,
            "meta_steps": self.meta_steps,
            "tasks_per_step": self.tasks_per_step,
        }
        if self.step_size is not None:
            final = meta.final_step_size * self.step_size / meta.step_size
            asked |= {"step_size": self.step_size, "final_step_size": final}
        meta = meta.replace(**{k: v for k, v in asked.items() if v is not None})
        drawn = meta.n_way * (meta.k_shot - meta.tail_shots)
        if meta.replacement and inner.batch_size >= drawn:
            raise ConfigError(
                f"--replacement changes nothing here: each mini-batch is all {drawn} examples that a task of "
                f"{meta.algorithm} draws from; leave it out"
            )
        return meta

    def _on(self, recipe: Recipe, backbone: str) -> Recipe:
        """The recipe with a timm model, which is asked of the Hub only before there is a checkpoint."""
        import fewshot_sdk
        from fewshot_sdk.artifacts.initialization import load_checkpoint
        from fewshot_sdk.artifacts.timm import recipe_for
        from fewshot_sdk.config.recipe import Timm

        known = (load_checkpoint(self.checkpoint) if self.checkpoint.exists() else fewshot_sdk.load(backbone)).recipe
        if not isinstance(known.backbone, Timm):
            raise ConfigError(f"{self.checkpoint} is of a training without --backbone; resume it as it was begun")
        named = recipe.replace(preset=f"{recipe.preset}-{known.backbone.name}")
        return recipe_for(named, known.backbone, known.preprocessing)
