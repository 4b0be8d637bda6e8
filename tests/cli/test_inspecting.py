from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fewshot_cli.main import app
from fewshot_sdk.artifacts.inspector import Inspector
from fewshot_sdk.data.textures import drawn_texture, textured
from fewshot_sdk.runtime.inspections import Inspected


def test_good_pictures_alone_make_an_inspector_that_every_verb_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texture, other = drawn_texture(rng, 2), drawn_texture(rng, 1)
    for folder, of, n in (("good", texture, 3), ("test/good", texture, 2), ("test/bad", other, 2)):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(textured(of, 96, rng)).save(tmp_path / folder / f"{i}.png")

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    made = json.loads(run("adapt", "--support", tmp_path / "good", "--output", tmp_path / "m", "--json"))
    assert (made["good"], made["bad"]) == (3, 0)
    assert "1 in 4" in made["promise"]
    run("export", tmp_path / "m", "--output", tmp_path / "m.onnx")
    bad = tmp_path / "test" / "bad" / "0.png"
    answers = [json.loads(run("predict", model, bad, "--json"))[0] for model in (tmp_path / "m", tmp_path / "m.onnx")]
    assert abs(answers[0]["score"] - answers[1]["score"]) < 1e-4
    assert answers[0]["good"] is answers[1]["good"] is False
    run("predict", tmp_path / "m.onnx", bad, "--explain", tmp_path / "why")
    assert (tmp_path / "why" / "0.png").is_file()
    assert json.loads(run("test", tmp_path / "m.onnx", tmp_path / "test", "--json"))["auroc"] == 1
    assert "inspector from 3 good pictures" in run("info", tmp_path / "m.onnx")
    extended = ("adapt", "--extend", tmp_path / "m", "--support", tmp_path / "test", "--one-class")
    both = json.loads(run(*extended, "--output", tmp_path / "n", "--json"))
    assert (both["good"], both["bad"]) == (5, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two good pictures in `good`, and an inspector `m` made from them."""
    path = tmp_path_factory.mktemp("inspected")
    rng = np.random.default_rng(0)
    texture = drawn_texture(rng, 2)
    (path / "good").mkdir()
    for i in range(2):
        Image.fromarray(textured(texture, 64, rng)).save(path / "good" / f"{i}.png")
    fewshot("adapt", "--support", path / "good", "--output", path / "m")
    return path


def fewshot(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("option", [("--steps", 0), ("--method", "auto"), ("--verbose",), ("--delta", "int8")])
def test_options_for_classes_are_refused_with_good_pictures(folder: Path, option: tuple[object, ...]) -> None:
    said = fewshot("adapt", "--support", folder / "good", "--output", folder / "n", *option, code=1)
    assert f"{option[0]} is for classes" in said


def test_extending_an_inspector_takes_no_other_network(folder: Path) -> None:
    extended = ("adapt", "--support", folder / "good", "--extend", folder / "m", "--output", folder / "n")
    assert "leave out --init" in fewshot(*extended, "--init", "omniglot", code=1)


def test_one_class_does_not_extend_what_is_no_inspector(folder: Path) -> None:
    extended = ("adapt", "--support", folder / "good", "--one-class", "--extend", folder / "good")
    assert "is no inspector" in fewshot(*extended, "--output", folder / "n", code=1)


@pytest.mark.parametrize(
    "arguments", [("predict", "m", "good/0.png"), ("test", "m", "good"), ("export", "m", "--output", "n.onnx")]
)
def test_a_base_is_refused_with_an_inspector(
    folder: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert "--base" in fewshot(*arguments, "--base", "photo", code=1)


def test_a_threshold_can_be_any_score(folder: Path) -> None:
    assert "(limit 1.500)" in fewshot("predict", folder / "m", folder / "good" / "0.png", "--threshold", 1.5)


def test_a_picture_named_in_two_ways_is_moved_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "part.png").write_bytes((folder / "good" / "0.png").read_bytes())
    said = fewshot("predict", "m", "part.png", folder / "part.png", "--move-to", "moved")
    assert "could not be read" not in said


def test_a_test_on_the_pictures_it_learned_from_says_so(folder: Path) -> None:
    assert "2 pictures of 2 are among those that the inspector learned from" in fewshot(
        "test", folder / "m", folder / "good"
    )


def test_an_interrupted_move_says_how_many_were_moved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes((folder / "good" / "0.png").read_bytes())
    told = Inspector.predict

    def once(model: Inspector, pictures: list[Path], **given: float | None) -> list[Inspected]:
        if pictures[0].name == "b.png":
            raise KeyboardInterrupt
        return told(model, pictures, **given)

    monkeypatch.setattr(Inspector, "predict", once)
    arguments = ["predict", folder / "m", folder / "a.png", folder / "b.png", "--move-to", folder / "stopped"]
    said = CliRunner().invoke(app, [str(argument) for argument in arguments]).output
    assert "moved 1 picture into" in said
    assert "fewshot predict --undo" in said
