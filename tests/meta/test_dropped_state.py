"""Each piece of what a checkpoint keeps, dropped on purpose: the resumed training tells, or ends in other bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from fewshot_sdk.artifacts.initialization import AnyInitialization
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.recipe import Pretraining, Recipe
from fewshot_sdk.data import glyphs
from fewshot_sdk.errors import FewshotError
from fewshot_sdk.meta import curve
from fewshot_sdk.meta.events import Event
from fewshot_sdk.meta.pretraining import _MOMENTUM, SETTINGS, TENSORS, Epoch
from fewshot_sdk.meta.run import train_to_folder
from fewshot_sdk.meta.training import MetaStep
from fewshot_sdk.storage.bundles import read_archive, write_archive
from tests.conftest import tiny_recipe
from tests.meta.test_run import bits

SMALL = tiny_recipe()
REPTILE = SMALL.replace(
    meta=SMALL.meta.replace(meta_steps=6, tasks_per_step=1, optimizer="adam", step_size=0.01, final_step_size=0.001),
    inner=SMALL.inner.replace(steps=2, batch_size=5),
)
META_SGD = with_algorithm(REPTILE, "meta-sgd")
PRETRAINED = REPTILE.replace(pretraining=Pretraining(epochs=3, batch_size=32, pictures="drawings"))
Files = dict[str, bytes]
Drop = Callable[[Files], object]


@pytest.fixture(autouse=True, scope="module")
def _few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "GLYPH_CLASSES", 12)
        patch.setattr(curve, "TASKS", 3)
        yield


@dataclass(frozen=True)
class Ended:
    """What a training left: the result, and the best initialization."""

    result: AnyInitialization
    best: Files

    def differs(self, other: Ended) -> bool:
        return bits(self.result) != bits(other.result) or self.best != other.best


def trained(recipe: Recipe, output: Path, *, resume: bool = False, stop: bool = False) -> Ended:
    """To the end; stop: interrupted after the fourth outer step, or the second epoch."""

    def listen(event: Event) -> None:
        if isinstance(event, MetaStep | Epoch) and stop and event.done == (2 if recipe.pretraining else 4):
            raise KeyboardInterrupt

    result = train_to_folder(
        recipe, output, checkpoint_every=4, evaluate_every=2, keep_best=True, resume=resume, on_event=listen
    )
    best = output.with_name(f"{output.name}-best")
    return Ended(result, {path.name: path.read_bytes() for path in best.glob("*.safetensors")})


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], tuple[Ended, Path]]:
    """A training without an interruption, and the folder of one that was interrupted."""

    @cache
    def train(recipe: Recipe) -> tuple[Ended, Path]:
        folder = tmp_path_factory.mktemp("begun")
        whole = trained(recipe, folder / "whole" / "init")
        with pytest.raises(KeyboardInterrupt):
            trained(recipe, folder / "half" / "init", stop=True)
        return whole, folder / "half"

    return train


def resumed(recipe: Recipe, half: Path, folder: Path, drop: Drop) -> Ended:
    """The interrupted training, with a piece dropped, and resumed."""
    shutil.copytree(half, folder, dirs_exist_ok=True)
    checkpoint = folder / f"init.{'pretraining' if recipe.pretraining else 'checkpoint'}"
    files = read_archive(checkpoint)
    drop(files)
    write_archive(checkpoint, files)
    return trained(recipe, folder / "init", resume=True)


def tensors(file: str, *beginnings: str) -> Drop:
    """Zeros in place of a file's tensors whose names begin so."""

    def drop(files: Files) -> None:
        held = load(files[file])
        chosen = [name for name in held if name.startswith(beginnings)]
        assert any(held[name].abs().sum() > 0 for name in chosen), f"{file} has no {beginnings} other than zero"
        files[file] = save({**held, **{name: torch.zeros_like(held[name]) for name in chosen}})

    return drop


def setting(name: str, value: Callable[[int], int]) -> Drop:
    """Another value in the record of how it was made."""

    def drop(files: Files) -> None:
        config = json.loads(files["config.json"])
        config["provenance"][name] = value(config["provenance"][name])
        files["config.json"] = json.dumps(config).encode()

    return drop


def lines(keep: Callable[[dict[str, float]], bool]) -> Drop:
    """Only some lines of metrics.jsonl."""

    def drop(files: Files) -> None:
        kept = [line for line in files["metrics.jsonl"].splitlines(keepends=True) if keep(json.loads(line))]
        assert len(kept) < len(files["metrics.jsonl"].splitlines())
        files["metrics.jsonl"] = b"".join(kept)

    return drop


def best(files: Files) -> None:
    """The accuracy of the best initialization so far becomes the lowest."""
    found = [json.loads(line) for line in files["metrics.jsonl"].splitlines()]
    highest = max(found, key=lambda line: line.get("accuracy", -1))
    highest["accuracy"] = 0.0
    files["metrics.jsonl"] = "".join(f"{json.dumps(line)}\n" for line in found).encode()


def epochs(files: Files) -> None:
    """One epoch less is done."""
    settings = json.loads(files[SETTINGS])
    files[SETTINGS] = json.dumps({**settings, "done": settings["done"] - 1}).encode()


LAYERS = ("conv", "norm", "head")
PIECES: dict[str, tuple[Recipe, Drop]] = {
    "the weights": (REPTILE, tensors("model.safetensors", *LAYERS)),
    "the second moments": (REPTILE, tensors("inner_state.safetensors", *LAYERS)),
    "the count of updates": (REPTILE, tensors("inner_state.safetensors", "updates")),
    "the outer optimizer's first moments": (REPTILE, tensors("outer_state.safetensors", "exp_avg.")),
    "the outer optimizer's second moments": (REPTILE, tensors("outer_state.safetensors", "exp_avg_sq.")),
    "the outer optimizer's state": (REPTILE, lambda files: files.pop("outer_state.safetensors")),
    "the inner state": (REPTILE, lambda files: files.pop("inner_state.safetensors")),
    "the place in the sequence of tasks": (REPTILE, setting("meta_steps_done", lambda done: done - 1)),
    "the seed": (REPTILE, setting("seed", lambda seed: seed + 1)),
    "the metrics": (REPTILE, lambda files: files.pop("metrics.jsonl")),
    "a line of the metrics": (REPTILE, lines(lambda line: line["meta_steps"] != 3)),
    "the curve": (REPTILE, lines(lambda line: "accuracy" not in line)),
    "the best accuracy": (REPTILE, best),
    "the learned rates": (META_SGD, tensors("inner_state.safetensors", "rate")),
    "the pre-trained weights": (PRETRAINED, tensors(TENSORS, *LAYERS)),
    "the momentum": (PRETRAINED, tensors(TENSORS, _MOMENTUM)),
    "the epochs done": (PRETRAINED, epochs),
}


@pytest.mark.parametrize("recipe", [REPTILE, META_SGD, PRETRAINED], ids=["reptile", "meta-sgd", "pre-training"])
def test_with_all_pieces_it_ends_in_the_same_bits(
    recipe: Recipe, tmp_path: Path, begun: Callable[[Recipe], tuple[Ended, Path]]
) -> None:
    whole, half = begun(recipe)
    assert not resumed(recipe, half, tmp_path, dict).differs(whole)


@pytest.mark.parametrize("piece", PIECES)
def test_without_a_piece_it_is_refused_or_ends_otherwise(
    piece: str, tmp_path: Path, begun: Callable[[Recipe], tuple[Ended, Path]]
) -> None:
    recipe, drop = PIECES[piece]
    whole, half = begun(recipe)
    try:
        again = resumed(recipe, half, tmp_path, drop)
    except FewshotError:
        return
    assert again.differs(whole)
