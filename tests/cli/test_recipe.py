"""`fewshot recipe`, and `fewshot meta-train` by a recipe's file and with --set."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command

from fewshot_cli.commands.meta_train import MetaTrainOptions
from fewshot_cli.display import Display
from fewshot_cli.main import app
from fewshot_sdk import load
from fewshot_sdk.artifacts.opening import load_any
from fewshot_sdk.config.backbones import Residual, Timm
from fewshot_sdk.config.presets import PRESETS
from fewshot_sdk.config.recipe import Pretraining
from fewshot_sdk.config.recipe_files import recipe_text
from fewshot_sdk.config.recipe_settings import AnyRecipe
from fewshot_sdk.config.regression import NUMBER_PRESETS
from fewshot_sdk.data import opening
from fewshot_sdk.meta import curve
from fewshot_sdk.meta.events import Event
from fewshot_sdk.meta.pretraining import Epoch
from fewshot_sdk.meta.run import train_to_folder
from fewshot_sdk.meta.training import MetaStep
from fewshot_sdk.storage.bundles import read_archive
from fewshot_sdk.storage.files import read_folder
from fewshot_sdk.storage.recipes import read_recipe
from fewshot_sdk.storage.repositories import bundled
from tests.conftest import REPOSITORY, Run, tiny_recipe


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "TASKS", 3)


def written(recipe: AnyRecipe, folder: Path) -> Path:
    (folder / "mine.toml").write_text(recipe_text(recipe), encoding="utf-8")
    return folder / "mine.toml"


def asked(*words: object) -> MetaTrainOptions:
    """The options of a command, as typer parses them."""
    known = get_command(app).commands["meta-train"]  # type: ignore[attr-defined]
    return MetaTrainOptions(**known.make_context("meta-train", [*map(str, words), "--output", "init"]).params)


def interrupt(event: Event) -> None:
    if isinstance(event, MetaStep | Epoch):
        raise KeyboardInterrupt


def test_the_commands_of_the_page_on_training_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    section = page.partition("## Recipes are files\n")[2].partition("\n\n")[0]
    monkeypatch.chdir(tmp_path)
    for line in section.splitlines():
        words, _, file = line.partition("#")[0].partition(" > ")
        code, out, err = run(*words.split()[1:])
        assert code == 0, err
        if file:
            Path(file).write_text(out, encoding="utf-8")
    assert load("again").sha256 == load("init").sha256
    assert load("init").recipe.inner.learning_rate == 0.002


def test_a_preset_is_printed_edited_and_trained_by(run: Run, tmp_path: Path) -> None:
    code, out, err = run("recipe", "glyphs")
    assert (code, err) == (0, "")
    (tmp_path / "mine.toml").write_text(out.replace("meta_steps = 2", "meta_steps = 1"), encoding="utf-8")
    words = ["--set", "inner.learning_rate=0.002", "--set", "backbone.filters=8", "--seed", 3]
    code, _, err = run("meta-train", "--recipe", tmp_path / "mine.toml", *words, "--output", tmp_path / "init")
    assert code == 0, err
    recipe = load(tmp_path / "init").recipe
    glyphs = tiny_recipe()
    assert recipe == glyphs.replace(
        backbone=glyphs.backbone.replace(filters=8),
        inner=glyphs.inner.replace(learning_rate=0.002),
        meta=glyphs.meta.replace(meta_steps=1),
    )


@pytest.mark.parametrize(
    "words",
    [["--preset", "glyphs", "--tasks-per-step", 1], ["--preset", "glyphs", "--set", "inner.steps=2", "--seed", 5],
     ["--preset", "sine", "--set", "meta.meta_steps=2"]],
    ids=["preset", "set", "numbers"],
)  # fmt: skip
def test_a_runs_folder_holds_the_recipe_that_repeats_it(
    words: list[object], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("meta-train", *words, "--output", tmp_path / "one")[0] == 0
    one = load_any(tmp_path / "one")
    assert read_recipe(tmp_path / "one" / "recipe.toml") == one.recipe
    monkeypatch.chdir(tmp_path / "one")
    repeated = ["meta-train", "--recipe", "recipe.toml", "--seed", one.provenance.seed]
    assert run(*repeated, "--output", tmp_path / "two")[0] == 0
    two = load_any(tmp_path / "two")
    assert (two.sha256, two.recipe) == (one.sha256, one.recipe)
    assert two.provenance.command == shlex.join(["fewshot", *map(str, repeated)])
    if "--set" in words:
        assert one.provenance.command == two.provenance.command
    assert "recipe.toml" in read_folder(tmp_path / "one")  # its hash is in the manifest


@pytest.mark.parametrize("name", bundled())
def test_the_recipe_of_a_bundled_initialization_gives_its_config(name: str, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("recipe", "--init", name)
    assert code == 0
    (tmp_path / "mine.toml").write_text(out, encoding="utf-8")
    recipe = asked("--recipe", tmp_path / "mine.toml").recipe()
    config = json.loads((bundled()[name] / "config.json").read_text(encoding="utf-8"))
    assert json.loads(recipe.model_dump_json()) == config["recipe"]


def test_the_presets_are_listed(run: Run) -> None:
    code, out, _ = run("recipe")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [*PRESETS, *NUMBER_PRESETS]


def test_the_schema_is_printed(run: Run) -> None:
    code, out, _ = run("recipe", "--schema")
    assert code == 0
    assert json.loads(out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_changed_recipe_is_printed(run: Run) -> None:
    code, out, _ = run("recipe", "glyphs", "--set", "pretraining.epochs=7")
    assert code == 0
    assert "[pretraining]\n# Passes over all training pictures. An integer of 1 or more.\nepochs = 7\n" in out


def test_short_options_change_a_recipe_of_ones_own_and_set_comes_last(tmp_path: Path) -> None:
    path = written(tiny_recipe(preset="mine"), tmp_path)
    recipe = asked("--recipe", path, "--algorithm", "maml", "--meta-steps", 7, "--set", "meta.meta_steps=9").recipe()
    assert (recipe.preset, recipe.meta.algorithm, recipe.meta.optimizer) == ("mine", "maml", "adam")
    assert recipe.meta.meta_steps == 9


def test_a_recipe_on_a_timm_model_stays_as_it_is_on_that_model(tmp_path: Path) -> None:
    recipe = tiny_recipe(preset="glyphs-resnet10t", backbone=Timm(name="resnet10t"))
    network = SimpleNamespace(recipe=recipe)
    given = asked("--recipe", written(recipe, tmp_path), "--backbone", "timm:resnet10t")
    assert given.recipe(network) == recipe  # type: ignore[arg-type]
    assert given.command == "fewshot meta-train --recipe recipe.toml --backbone timm:resnet10t --seed 0"
    assert asked("--preset", "glyphs", "--backbone", "timm:resnet10t").recipe(network).preset == "glyphs-resnet10t"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "missing --preset NAME, --recipe FILE or --init NAME; `fewshot recipe` lists presets"),
        (["--preset", "glyphs", "--recipe", "mine.toml"], "--preset and --recipe each name a recipe"),
    ],
)
def test_a_training_has_exactly_one_recipe(words: list[str], said: str, run: Run, tmp_path: Path) -> None:
    code, _, err = run("meta-train", *words, "--output", tmp_path / "init")
    assert (code, said in err) == (2, True)


def test_what_is_printed_is_one_recipe(run: Run) -> None:
    assert run("recipe", "glyphs", "--init", "omniglot")[0] == 2
    assert run("recipe", "--set", "head=zero")[0] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "glyphs", "--set", "inner.learning_rat=1"],
         "--set: no setting inner.learning_rat; did you mean inner.learning_rate?"),
        (["--preset", "glyphs", "--set", "inner.learning_rate=-1"],
         "--set: inner.learning_rate: input should be greater than 0, found -1"),
        (["--recipe", "none.toml"], "none.toml: no such file or directory; expected a recipe"),
        (["--recipe", "wrong.toml"], "wrong.toml: not TOML: invalid value (at line 1, column 5)"),
        (["--recipe", "sine.toml", "--pretrain", "2"], "sine is for numbers: leave out --root"),
        (["--resume"], "init.checkpoint: no such file or directory; expected a checkpoint"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_told_in_one_sentence_before_anything_is_read(
    words: list[str], said: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "open_dataset", lambda *_: pytest.fail("it went on"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.toml").write_text("a = \n")
    (tmp_path / "sine.toml").write_text(recipe_text(NUMBER_PRESETS["sine"]))
    before = sorted(tmp_path.iterdir())
    code, _, err = run("meta-train", *words, "--output", "init")
    assert code == 1
    assert said in err
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_printing_what_is_not_there_is_told(run: Run) -> None:
    code, _, err = run("recipe", "glyhps")
    assert (code, "did you mean 'glyphs'?; name an initialization with --init" in err) == (1, True)
    assert run("recipe", "--init", "glyhps")[0] == 1
    code, out, err = run("recipe", "glyphs", "--set", "head=zro")
    assert (code, out, "--set: head: input should be 'dense', 'zero' or 'prototype'" in err) == (1, "", True)


@pytest.mark.parametrize(
    "recipe",
    [tiny_recipe(), tiny_recipe(pretraining=Pretraining(epochs=2, batch_size=256)), NUMBER_PRESETS["sine"]],
    ids=["outer steps", "pre-training", "numbers"],
)
def test_resuming_takes_the_recipe_and_the_seed_of_what_is_unfinished(
    recipe: AnyRecipe, run: Run, tmp_path: Path
) -> None:
    recipe = recipe.replace(meta=recipe.meta.replace(meta_steps=3))
    whole = train_to_folder(recipe, tmp_path / "whole", seed=4)
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(recipe, tmp_path / "init", seed=4, on_event=interrupt)
    code, _, err = run("meta-train", "--resume", "--output", tmp_path / "init")
    assert code == 0, err
    assert load_any(tmp_path / "init").sha256 == whole.sha256
    assert read_recipe(tmp_path / "init" / "recipe.toml") == recipe


def test_interrupted_pre_training_says_where_it_is_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Display, "__call__", lambda _, event: interrupt(event))
    words = ("--preset", "glyphs", "--pretrain", 2, "--output", tmp_path / "init")
    code, _, err = run("meta-train", *words)
    kept = f"the epochs done are saved in {tmp_path / 'init.pretraining'}; --resume continues\ninterrupted\n"
    assert (code, err.endswith(kept)) == (130, True)


def test_resuming_with_a_changed_recipe_is_refused_and_the_difference_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(tiny_recipe(), tmp_path / "init", on_event=interrupt)
    checkpoint = tmp_path / "init.checkpoint"
    assert read_archive(checkpoint)["recipe.toml"].decode() == recipe_text(tiny_recipe())
    before = checkpoint.read_bytes()
    own = written(tiny_recipe(backbone=Residual(widths=(4,)), head="dense"), tmp_path)
    for words, said in (
        (["--set", "inner.learning_rate=0.002"], "run: inner.learning_rate was 0.003, now 0.002; resume it with"),
        (["--preset", "glyphs", "--set", "meta.k_shot=4"], "run: meta.k_shot was 3, now 4; resume it with"),
        (["--recipe", own], "backbone.kind was conv4, now residual; backbone.filters was 4, now none; "),
        (["--seed", 5], "run: seed was 0, now 5; resume it with"),
    ):
        code, _, err = run("meta-train", "--resume", *words, "--output", tmp_path / "init")
        assert code == 1
        assert said in err
    assert checkpoint.read_bytes() == before


def test_resuming_pre_training_with_a_changed_recipe_is_refused_too(run: Run, tmp_path: Path) -> None:
    recipe = tiny_recipe(pretraining=Pretraining(epochs=3, batch_size=256))
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(recipe, tmp_path / "init", on_event=interrupt)
    code, _, err = run("meta-train", "--resume", "--set", "pretraining.epochs=9", "--output", tmp_path / "init")
    assert (code, "settings: pretraining.epochs was 3, now 9; resume it with" in err) == (1, True)


def test_recording_a_result_keeps_the_recipe(run: Run, tmp_path: Path) -> None:
    train_to_folder(tiny_recipe(), tmp_path / "init")
    before = (tmp_path / "init" / "recipe.toml").read_bytes()
    assert run("evaluate", tmp_path / "init", "--tasks", 2, "--record")[0] == 0
    assert read_folder(tmp_path / "init")["recipe.toml"] == before
