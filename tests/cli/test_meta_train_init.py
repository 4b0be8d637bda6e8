"""`fewshot meta-train --init`: training that goes on from an initialization, on other classes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

from fewshot_sdk import load
from fewshot_sdk.meta import curve
from tests.conftest import Run, draw_folder, stopped_after

NO_CURVE = ("--evaluate-every", 0, "--workers", 1)
LABELS = tuple(f"{first}{second}" for first in "abc" for second in "xyzw")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "classes", LABELS)


@pytest.fixture(autouse=True)
def _few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "TASKS", 3)


def test_it_takes_network_recipe_and_memory_from_the_initialization(
    run: Run, saved: Path, classes: Path, tmp_path: Path
) -> None:
    words = ("--init", saved, "--data", classes, "--meta-steps", 2, "--seed", 3, *NO_CURVE)
    code, _, err = run("meta-train", *words, "--output", tmp_path / "one")
    assert code == 0, err
    start, one = load(saved), load(tmp_path / "one")
    assert one.recipe.backbone == start.recipe.backbone
    assert one.recipe.inner == start.recipe.inner
    assert one.state.updates == start.state.updates + 2 * one.recipe.inner.steps
    assert one.recipe.data.own is not None
    assert one.provenance.chain == (start.origin,)
    assert one.provenance.command == (
        f"fewshot meta-train --recipe recipe.toml --init {saved.name} --data classes --seed 3"
    )


def test_the_recorded_command_trains_the_same_again(
    run: Run, saved: Path, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--init", saved, "--data", classes, "--split", "0.8/0.2", "--split-seed", 5, "--algorithm", "fomaml")
    assert run("meta-train", *words, "--meta-steps", 1, *NO_CURVE, "--output", tmp_path / "one")[0] == 0
    (tmp_path / "recipe.toml").write_bytes((tmp_path / "one" / "recipe.toml").read_bytes())
    if not (tmp_path / saved.name).exists():
        (tmp_path / saved.name).symlink_to(saved)
    monkeypatch.chdir(tmp_path)
    again = shlex.split(load("one").provenance.command)[1:]
    assert run(*again, *NO_CURVE, "--output", "two")[0] == 0
    one, two = load("one"), load("two")
    assert (two.sha256, two.recipe, two.provenance.chain) == (one.sha256, one.recipe, one.provenance.chain)


def test_a_preset_brings_its_loops_and_not_its_network(run: Run, saved: Path, classes: Path, tmp_path: Path) -> None:
    words = ("--preset", "omniglot", "--init", saved, "--data", classes, "--set", "meta.k_shot=2", "--meta-steps", 1)
    code, _, err = run("meta-train", *words, "--set", "inner.batch_size=5", *NO_CURVE, "--output", tmp_path / "one")
    assert code == 0, err
    one, start = load(tmp_path / "one"), load(saved)
    assert (one.recipe.backbone, one.recipe.preprocessing) == (start.recipe.backbone, start.recipe.preprocessing)
    assert (one.recipe.preset, one.recipe.adaptation.steps) == ("omniglot", 60)
    assert not one.recipe.data.rotations  # those are Omniglot's


def test_a_file_for_another_network_is_refused(run: Run, saved: Path, classes: Path, tmp_path: Path) -> None:
    _, text, _ = run("recipe", "glyphs", "--set", "backbone.filters=9", "--set", "meta.k_shot=2")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    words = ("--recipe", tmp_path / "mine.toml", "--init", saved, "--data", classes, *NO_CURVE)
    code, _, err = run("meta-train", *words, "--output", tmp_path / "one")
    assert code == 1
    assert "backbone: expected that of the initialization to go on from" in err
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--backbone", "timm:resnet10t"], 2, "--init and --backbone each name a network; give one of them"),
        (["--pretrain", 2], 1, "pre-trains from random weights"),
        (["--preset", "sine"], 1, "sine is for numbers: leave out --root, --data"),
        (["--init", "nothing/like/it/here"], 1, "nothing/like/it/here"),
    ],
)
def test_what_contradicts_it_is_refused(
    words: list[object], code: int, said: str, run: Run, saved: Path, tmp_path: Path
) -> None:
    found, _, err = run("meta-train", "--init", saved, *words, *NO_CURVE, "--output", tmp_path / "one")
    assert (found, said in err) == (code, True), err
    assert not list(tmp_path.glob("one*"))


def test_data_that_cannot_be_opened_ask_for_others(run: Run, tmp_path: Path) -> None:
    code, _, err = run("meta-train", "--init", "photo", *NO_CURVE, "--output", tmp_path / "one")
    assert code == 1
    assert "name other data (--data)" in err


def test_a_class_of_an_earlier_training_is_no_new_class(run: Run, saved: Path, classes: Path, tmp_path: Path) -> None:
    first = ("--init", saved, "--data", classes, "--meta-steps", 1, *NO_CURVE)
    assert run("meta-train", *first, "--output", tmp_path / "first")[0] == 0
    own = load(tmp_path / "first").recipe.data.own
    assert own is not None
    more = draw_folder(tmp_path / "more" / "train", tuple(f"new{i}" for i in range(6))).parent
    draw_folder(more / "test", (own.train[0], "other"))
    words = ("--init", tmp_path / "first", "--meta-steps", 1, *NO_CURVE, "--output", tmp_path / "second")
    code, _, err = run("meta-train", *words, "--data", more)
    assert code == 1
    assert f"was trained on {own.train[0]}, and an accuracy on these would say nothing about new classes" in err
    for name in ("test", "first"):
        draw_folder(more / "train", (f"only-{name}",))
    (more / "test" / own.train[0]).rename(more / "train" / own.train[0])
    draw_folder(more / "test", ("another",))
    code, _, err = run("meta-train", *words, "--data", more)
    assert code == 0, err
    measured = draw_folder(tmp_path / "measured", (own.train[1], *"uvwxyz"))
    code, _, err = run("evaluate", tmp_path / "second", "--data", measured, "--tasks", 2)
    assert code == 1
    assert f"was trained on {own.train[1]}" in err


def test_the_same_pictures_are_divided_as_before(run: Run, saved: Path, classes: Path, tmp_path: Path) -> None:
    first = ("--init", saved, "--data", classes, "--split", "0.6/0.2/0.2", "--split-seed", 9, "--meta-steps", 1)
    assert run("meta-train", *first, *NO_CURVE, "--output", tmp_path / "first")[0] == 0
    words = ("--init", tmp_path / "first", "--data", classes, "--meta-steps", 1, *NO_CURVE)
    assert run("meta-train", *words, "--output", tmp_path / "second")[0] == 0
    assert load(tmp_path / "second").recipe.data == load(tmp_path / "first").recipe.data


def test_an_interrupted_training_goes_on_without_its_options_and_from_nothing_else(
    run: Run, saved: Path, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--init", saved, "--data", classes, "--meta-steps", 3, *NO_CURVE)
    assert run("meta-train", *words, "--output", tmp_path / "whole")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("fewshot_sdk.meta.run.steps_left", stopped_after(2))
        assert run("meta-train", *words, "--output", tmp_path / "x")[0] != 0
    other = ("--init", tmp_path / "whole", "--data", classes, "--meta-steps", 3, *NO_CURVE)
    code, _, err = run("meta-train", *other, "--resume", "--output", tmp_path / "x")
    assert code == 1
    assert "this is not the interrupted training run: it began with" in err
    code, _, err = run("meta-train", "--resume", "--data", classes, *NO_CURVE, "--output", tmp_path / "x")
    assert code == 0, err
    whole, resumed = load(tmp_path / "whole"), load(tmp_path / "x")
    assert resumed.sha256 == whole.sha256
    assert resumed.provenance.chain == whole.provenance.chain
    assert all(torch.equal(tensor, whole.state.params[name]) for name, tensor in resumed.state.params.items())


def test_classes_with_the_names_of_published_ones_are_warned_of(run: Run, tmp_path: Path) -> None:
    mine = draw_folder(tmp_path / "mine", ("cup", "lamp", "laptop", "other", "another", "more"))
    code, out, err = run("evaluate", "photo", "--data", mine, "--tasks", 2, "--baseline", "prototypes", "--workers", 1)
    assert (code, bool(out)) == (0, True)
    assert "warning: photo was trained on classes named cup, lamp, laptop; if yours are the same kinds of things" in err


def test_photo_without_its_weights_is_warned_of(run: Run, tmp_path: Path) -> None:
    mine = draw_folder(tmp_path / "mine" / "train", tuple("abc"), shots=2).parent
    small = [f"meta.{name}" for name in ("n_way=2", "k_shot=2", "tail_shots=1", "tasks_per_step=1")]
    words = [word for setting in small for word in ("--set", setting)]
    given = ("--preset", "photo", "--data", mine, *words, "--meta-steps", 1, *NO_CURVE)
    code, _, err = run("meta-train", *given, "--output", tmp_path / "x")
    assert code == 0, err
    assert "warning: photo begins with random weights here; --init names trained ones to begin with" in err
