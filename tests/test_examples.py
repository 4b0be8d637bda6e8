from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from fewshot_sdk import Predictor, export_learner, load, preset, save
from fewshot_sdk.adaptation.regressor import adapt_regressor
from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.artifacts.initialization import Initialization, NumberInitialization
from fewshot_sdk.artifacts.opening import load_any
from fewshot_sdk.config import presets
from fewshot_sdk.config.recipe import EfficientNet
from fewshot_sdk.data import glyphs
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.export import learner as export_module
from fewshot_sdk.export.regressor import export_regressor
from fewshot_sdk.meta import curve
from fewshot_sdk.meta.events import Event
from fewshot_sdk.meta.run import train_to_folder
from fewshot_sdk.meta.training import MetaStep
from fewshot_sdk.runtime.adaptation import adapt_to_onnx
from tests.conftest import REPOSITORY, draw_folder, tiny_recipe
from tests.meta.test_tail import recipe_of, start_of

EXAMPLES = REPOSITORY / "examples"


def test_every_example_is_short_and_tested_here() -> None:
    scripts = {path.name: path for path in EXAMPLES.glob("*.py")}
    assert scripts.keys() == {
        "adapt_and_predict.py",
        "classify_text.py",
        "draw_fruit.py",
        "learner_alone.py",
        "make_drawings.py",
        "meta_train_photo.py",
        "numbers_alone.py",
        "own_network.py",
        "photographs.py",
        "ray_train.py",
        "train_to_folder.py",
        "whole_line.py",
    }
    assert all(len(path.read_text().splitlines()) <= 40 for path in scripts.values())


def run(name: str, *words: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def interrupt(event: Event) -> None:
    if isinstance(event, MetaStep):
        raise KeyboardInterrupt


def test_the_committed_drawings_are_those_the_script_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("make_drawings.py", tmp_path, monkeypatch=monkeypatch)
    drawn = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert len(drawn) == 25
    assert drawn == {path.relative_to(EXAMPLES): path.read_bytes() for path in EXAMPLES.rglob("*.png")}


def test_adapting_the_bundled_initialization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = EXAMPLES / "new_drawings" / "fish1.png"
    run("adapt_and_predict.py", EXAMPLES / "drawings", picture, tmp_path / "m.onnx", monkeypatch=monkeypatch)
    assert capsys.readouterr().out.startswith("fish ")


def test_sorting_messages_by_topic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wordllama")
    path, words = tmp_path / "m.onnx", ("Where is my parcel?", "I would like a refund.")
    run("classify_text.py", path, *words, monkeypatch=monkeypatch)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["delivery", "refund"]


def test_the_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a tiny recipe instead of a minute of training."""
    monkeypatch.setitem(presets.PRESETS, "glyphs", tiny_recipe())
    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 40)
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    run("whole_line.py", monkeypatch=monkeypatch)
    assert "Prediction(label=" in capsys.readouterr().out
    assert (tmp_path / "model.onnx").stat().st_size > 1000


def test_training_to_a_folder_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tiny_recipe()
    monkeypatch.setitem(presets.PRESETS, "glyphs", small.replace(meta=small.meta.replace(meta_steps=4)))
    monkeypatch.setattr(glyphs, "GLYPH_CLASSES", 12)
    monkeypatch.setattr(curve, "TASKS", 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(preset("glyphs"), "init", evaluate_every=0, on_event=interrupt)
    run("train_to_folder.py", monkeypatch=monkeypatch)
    assert capsys.readouterr().out.endswith("% on new classes\n")
    assert load("init").provenance.meta_steps_done == 4


def test_meta_training_the_last_stages_on_several_domains(
    init: Initialization, omniglot_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tiny pictures and two outer steps, in this process."""
    small = recipe_of("protonet")
    start = save(start_of(recipe_of("reptile", EfficientNet()), init), tmp_path / "start")
    monkeypatch.setitem(presets.PRESETS, "photo", small)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "omniglot").symlink_to(omniglot_root)
    monkeypatch.setenv("FEWSHOT_DATA", str(tmp_path / "data"))
    pictures = draw_folder(tmp_path / "pictures", shots=2)
    train = runpy.run_path(str(EXAMPLES / "meta_train_photo.py"), run_name="example")["train"]
    train(Workers(), str(start), str(pictures), str(tmp_path / "made"))
    made = load(tmp_path / "made")
    assert made.recipe == small
    assert made.provenance.meta_steps_done == 2
    assert made.provenance.command == f"python examples/meta_train_photo.py {start} {pictures} {tmp_path / 'made'}"


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "protonet"])
def test_a_network_and_tasks_of_ones_own(
    algorithm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("own_network.py", algorithm, 60, monkeypatch=monkeypatch)
    before, after = (float(found) for found in re.findall(r"([\d.]+)%", capsys.readouterr().out))
    assert 40 < before < after  # chance is a third


def test_the_python_of_the_readme_is_that_example() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    example = (EXAMPLES / "whole_line.py").read_text().partition('"""\n\n')[2]
    assert example in blocks
    assert len(example.splitlines()) <= 13


def test_the_python_of_the_page_on_training_is_that_example() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "training.md").read_text(), re.DOTALL)
    assert blocks == [(EXAMPLES / "train_to_folder.py").read_text().partition('"""\n\n')[2]]


@pytest.mark.parametrize("name", ["learner_alone.py", "numbers_alone.py"])
def test_the_page_on_deploying_shows_that_example(name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "deploying.md").read_text(), re.DOTALL)
    assert (EXAMPLES / name).read_text().partition('"""\n\n')[2] in blocks


def test_onnxruntime_alone_adapts_as_the_library_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "TRIALS", export_module.TRIALS[:1])  # it is checked elsewhere
    drawings = EXAMPLES / "drawings"
    learner, new = tmp_path / "learner.onnx", sorted((EXAMPLES / "new_drawings").glob("*.png"))
    export_learner(load("omniglot"), learner)
    found = alone("learner_alone.py", learner, drawings, *new).splitlines()
    adapted = adapt_to_onnx(learner, drawings, tmp_path / "model.onnx")
    wanted = Predictor(adapted.path).predict(new)
    for line, answer in zip(found, wanted, strict=True):
        _, label, probability = line.rsplit("  ", 2)
        assert label == answer.nearest
        assert float(probability) == pytest.approx(answer.probability, abs=1e-4)


def test_onnxruntime_alone_predicts_numbers(tmp_path: Path) -> None:
    points = np.array([[-4, 1.5], [-2, -1.7], [0, 0.3], [1, 2.0], [3, 0.1]], np.float32)
    regressor = adapt_regressor(cast("NumberInitialization", load_any("sine")), points)
    export_regressor(regressor, tmp_path / "curve.onnx")
    found = [float(number) for number in alone("numbers_alone.py", tmp_path / "curve.onnx", -4, 0, 3).split()]
    assert found == pytest.approx(regressor.predict(points[[0, 2, 4], :1]).tolist(), abs=1e-4)


def alone(name: str, *words: object) -> str:
    """What an example prints that imports nothing of this library."""
    program = f"import runpy, sys; runpy.run_path({str(EXAMPLES / name)!r}); assert 'fewshot_sdk' not in sys.modules"
    command = [sys.executable, "-P", "-c", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_of_the_pages_exists() -> None:
    from typer.main import get_command

    from fewshot_cli.main import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    pages = [REPOSITORY / "README.md", REPOSITORY / "Makefile", *(REPOSITORY / "docs").glob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    used = re.findall(r"^\s*(?:\$\(FEWSHOT\)|fewshot) ([a-z-]+)(.*)$", text, re.MULTILINE)
    assert {command for command, _ in used} == known.keys()
    for command, rest in used:
        options = {
            option for parameter in known[command].params for option in parameter.opts + parameter.secondary_opts
        }
        assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= options, command


def test_the_pages_link_to_what_is_there() -> None:
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ray_trains_to_the_bits_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs fewshot-sdk[ray]")
    command = [sys.executable, str(EXAMPLES / "ray_train.py"), str(tmp_path / "ray"), "2", "30"]
    own = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")]), "RAY_USAGE_STATS_ENABLED": "0"}
    with (tmp_path / "log").open("w") as log:  # not a pipe, which Ray's own processes would hold open
        done = subprocess.run(command, env={**os.environ, **own}, stdout=log, stderr=log, check=False, timeout=500)
    assert done.returncode == 0, (tmp_path / "log").read_text()
    recipe = preset("glyphs")
    recipe = recipe.replace(meta=recipe.meta.replace(meta_steps=30))
    alone = train_to_folder(recipe, tmp_path / "alone", evaluate_every=0)
    assert load(str(tmp_path / "ray")).sha256 == alone.sha256
