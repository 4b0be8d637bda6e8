"""`--data PATH` of meta-train, evaluate and compare."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from fewshot_sdk import TaskSampler, load, meta_train, open_dataset, save
from fewshot_sdk.config.recipe import DataSource
from fewshot_sdk.meta import curve
from fewshot_sdk.meta.events import Event
from fewshot_sdk.meta.run import train_to_folder
from fewshot_sdk.meta.training import MetaStep
from tests.conftest import Run, draw_folder, tiny_recipe

LABELS = tuple(f"class{i}" for i in range(12))
TRAIN = ("meta-train", "--preset", "glyphs", "--data")


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "TASKS", 3)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "mine", LABELS)


@pytest.fixture
def trained(run: Run, mine: Path, tmp_path: Path) -> Path:
    assert run(*TRAIN, mine, "--split", "0.5/0.25/0.25", "--output", tmp_path / "trained")[0] == 0
    return tmp_path / "trained"


def test_it_trains_on_a_folder_and_measures_on_held_out_classes(run: Run, mine: Path, tmp_path: Path) -> None:
    (mine / "class3" / "note.txt").write_text("no picture")
    code, out, err = run(*TRAIN, mine, "--split", "0.5/0.25/0.25", "--split-seed", 2, "--output", tmp_path / "init")
    assert (code, out) == (0, "")
    assert "warning: 1 of 49 files could not be read, left out: " in err
    assert "mine, split 0.5/0.25/0.25, seed 2: 6 classes to train, 3 classes to validate, 3 classes to test\n" in err
    init = load(tmp_path / "init")
    assert init.provenance.command == (
        "fewshot meta-train --preset glyphs --meta-steps 2 --data mine --split 0.5/0.25/0.25 --split-seed 2 --seed 0"
    )
    assert init.recipe.data.own is not None
    assert len(init.recipe.data.own.train) == 6
    assert init.metrics[-1].ways == 3  # as many as there are for validation
    for file in (tmp_path / "init").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["init", "mine"]


def test_as_json_nothing_but_warnings_is_on_stderr(run: Run, mine: Path, tmp_path: Path) -> None:
    assert run(*TRAIN, mine, "--json", "--output", tmp_path / "init")[2] == ""
    (mine / "class3" / "note.txt").write_text("no picture")
    err = run(*TRAIN, mine, "--json", "--output", tmp_path / "again")[2]
    assert all(line.startswith("warning: ") for line in err.splitlines())


def test_too_few_training_classes_say_what_to_do(run: Run, mine: Path, tmp_path: Path) -> None:
    code, _, err = run(*TRAIN, mine, "--set", "meta.n_way=9", "--output", tmp_path / "init")
    assert (code, err.splitlines()[-1]) == (
        1,
        "error: mine: a task takes 9 training classes, and there are 8; add some, divide them by another --split, or "
        "set meta.n_way to fewer, from 2",
    )


def test_workers_share_what_was_decoded_once(run: Run, mine: Path, trained: Path, tmp_path: Path) -> None:
    words = (mine, "--split", "0.5/0.25/0.25", "--workers", 2, "--output", tmp_path / "two")
    assert run(*TRAIN, *words)[0] == 0
    assert load(tmp_path / "two").sha256 == load(trained).sha256


def test_without_held_out_classes_there_is_no_curve(run: Run, mine: Path, tmp_path: Path) -> None:
    code, _, err = run(*TRAIN, mine, "--split", "1/0/0", "--output", tmp_path / "init")
    assert (
        code,
        "no accuracy is measured during training: 0 held-out classes are too few; another --split" in err,
    ) == (0, True)
    assert load(tmp_path / "init").metrics == ()


def test_a_data_set_of_the_table_can_be_named_too(run: Run, omniglot_root: Path, tmp_path: Path) -> None:
    words = ("omniglot", "--root", omniglot_root, "--evaluate-every", 0, "--output", tmp_path / "init")
    assert run(*TRAIN, *words)[0] == 0
    assert load(tmp_path / "init").recipe.data.name == "omniglot"


def test_what_is_set_of_a_named_data_set_is_not_undone_by_naming_it(
    run: Run, omniglot_root: Path, tmp_path: Path
) -> None:
    words = ("--root", omniglot_root, "--evaluate-every", 0, "--set", "meta.meta_steps=1")
    changes = ("--set", "data.split=official", "--set", "data.rotations=true")
    assert run(*TRAIN, "omniglot", *words, *changes, "--output", tmp_path / "one")[0] == 0
    one = load(tmp_path / "one").recipe
    assert (one.data.split, one.data.rotations) == ("official", True)
    again = ("meta-train", "--recipe", tmp_path / "one" / "recipe.toml", "--data", "omniglot")
    assert run(*again, *words, "--output", tmp_path / "two")[0] == 0
    assert load(tmp_path / "two").recipe == one


def test_the_recorded_command_is_quoted_and_tells_a_folder_from_a_data_set(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_folder(tmp_path / "omniglot", LABELS)
    words = ("./omniglot", "--split", "0.5 / 0.5", "--evaluate-every", 0, "--output")
    assert run(*TRAIN, *words, "my init; one")[0] == 0
    command = load("./my init; one").provenance.command
    assert " --data ./omniglot --split '0.5 / 0.5' " in command
    assert run(*shlex.split(command)[1:], "--evaluate-every", 0, "--output", "again")[0] == 0
    assert load("again").sha256 == load("./my init; one").sha256
    further = ("--init", "./my init; one", "--data", "./omniglot", "--evaluate-every", 0, "--output", "further")
    assert run("meta-train", *further)[0] == 0
    assert " --init 'my init; one' " in load("further").provenance.command


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("glyphs", "--split", "0.8/0.2"), "--split, --split-seed and --skip-small are for your own classes"),
        (("glypphs",), "did you mean 'glyphs'?; nor is there a folder, zip or CSV of that name"),
        (("MINE", "--root", "."), "--root is for the data sets known by name: leave it out"),
        (("MINE", "--split", "7/3"), "--split: expected shares of the classes"),
        (("MINE", "--set", "data.own=none"), "--set data.own: --data PATH tells which classes there are; leave one"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    run: Run, mine: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    code, out, err = run(*TRAIN, *(mine if word == "MINE" else word for word in words), "--output", tmp_path / "init")
    assert (code, out) == (1, "")
    assert says in err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_small_classes_are_named_before_training_and_left_out_if_asked(run: Run, mine: Path, tmp_path: Path) -> None:
    for shot in (0, 1):
        (mine / "class7" / f"{shot}.png").unlink()
    code, _, err = run(*TRAIN, mine, "--output", tmp_path / "init")
    assert (code, "in class7 (2 of 3); add some, or leave these classes out with --skip-small" in err) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
    assert run(*TRAIN, mine, "--skip-small", "--output", tmp_path / "init")[0] == 0
    init = load(tmp_path / "init")
    assert init.recipe.data.own is not None
    assert "class7" not in (*init.recipe.data.own.train, *init.recipe.data.own.val, *init.recipe.data.own.test)
    assert "--data mine --skip-small --seed 0" in init.provenance.command


def test_a_training_resumes_on_the_same_pictures_only(run: Run, mine: Path, trained: Path, tmp_path: Path) -> None:
    def interrupted(event: Event) -> None:
        if isinstance(event, MetaStep):
            raise KeyboardInterrupt

    recipe, words = load(trained).recipe, (mine, "--split", "0.5/0.25/0.25", "--resume", "--output", tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(recipe, tmp_path / "again", root=mine, on_event=interrupted)
    before = (mine / "class5" / "0.png").read_bytes()
    (mine / "class5" / "0.png").write_bytes((mine / "class6" / "0.png").read_bytes())
    code, _, err = run(*TRAIN, *words)
    assert (code, "data.own.sha256 was " in err) == (1, True)
    (mine / "class5" / "0.png").write_bytes(before)  # at another time, so that it is decoded again
    assert run(*TRAIN, *words)[0] == 0
    assert load(tmp_path / "again").sha256 == load(trained).sha256


def test_evaluate_measures_on_the_recorded_test_classes(run: Run, mine: Path, trained: Path) -> None:
    code, out, _ = run("evaluate", trained, "--data", mine, "--ways", 3, "--tasks", 3, "--json", "--record")
    assert (code, json.loads(out)["part"]) == (0, "test")
    assert "| mine 3-way 1-shot | inductive |" in (trained / "README.md").read_text()
    assert run("evaluate", trained, "--data", mine, "--ways", 6, "--tasks", 3, "--part", "train")[0] == 0
    code, _, err = run("evaluate", trained, "--data", mine, "--ways", 5, "--tasks", 3)
    assert (code, "5-way tasks need 5 classes, these of mine are 3; take fewer ways (--ways)" in err) == (1, True)


def test_evaluate_without_the_data_says_what_to_name(run: Run, trained: Path) -> None:
    code, _, err = run("evaluate", trained, "--tasks", 3)
    assert code == 1
    assert err == "error: mine is your own data, but not where it is: name the folder, zip or CSV by --data PATH\n"


def test_evaluate_refuses_training_classes_by_name(run: Run, trained: Path, tmp_path: Path) -> None:
    own = load(trained).recipe.data.own
    assert own is not None
    others = draw_folder(tmp_path / "others", (own.train[0], "yak", "zebra"))
    code, _, err = run("evaluate", trained, "--data", others, "--ways", 2, "--tasks", 3)
    assert (code, f"was trained on {own.train[0]}, and an accuracy" in err) == (1, True)


def test_evaluate_refuses_training_classes_in_a_data_set_of_the_table(run: Run, tmp_path: Path) -> None:
    recipe = tiny_recipe(data=DataSource(name="omniglot", split="paper"))
    data = open_dataset("glyphs", recipe.preprocessing, "test")
    *_, last = meta_train(recipe, TaskSampler(data=data, n_way=5, k_shot=3))
    save(last.initialization, tmp_path / "init")
    code, _, err = run("evaluate", tmp_path / "init", "--data", "glyphs", "--tasks", 3)
    assert (code, "was trained on glyph40, glyph41," in err) == (1, True)
    assert run("evaluate", tmp_path / "init", "--data", "glyphs", "--part", "train", "--tasks", 3)[0] == 0


def test_evaluate_leaves_out_small_classes_if_asked(run: Run, saved: Path, mine: Path) -> None:
    (mine / "class2" / "0.png").unlink()
    words = ("evaluate", saved, "--data", mine, "--shots", 3, "--tasks", 3)
    code, _, err = run(*words)
    assert (code, "in class2 (3 of 4); add some, or leave these classes out with --skip-small" in err) == (1, True)
    code, _, err = run(*words, "--skip-small")
    assert (code, "warning: " in err, "class2 (3 of 4); left out" in err) == (0, True, True)


def test_compare_takes_a_path_and_refuses_any_ones_training_classes(
    run: Run, saved: Path, mine: Path, trained: Path, tmp_path: Path
) -> None:
    others = draw_folder(tmp_path / "others", ("wolf", "yak", "zebra"))
    words = ("--ways", 2, "--shots", 1, "--tasks", 3, "--data")
    code, out, _ = run("compare", saved, trained, *words, others, "--json")
    assert (code, json.loads(out)[0]["data"]) == (0, "others")
    assert run("compare", saved, trained, *words, mine)[0] == 0  # its recorded test classes
    draw_folder(others, ("class0",))
    own = load(trained).recipe.data.own
    assert own is not None
    draw_folder(others, (own.train[0],))
    code, _, err = run("compare", saved, trained, *words, others)
    assert (code, f"{trained} was trained on {own.train[0]}" in err) == (1, True)
