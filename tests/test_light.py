"""What works where PyTorch is not installed, in an environment of nothing but what pyproject.toml requires."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fewshot_sdk import adapt, export_learner, export_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization
from tests.conftest import REPOSITORY, draw_folder
from tests.light import light_site

PROGRAM = """
import contextlib, io, json, sys
from fewshot_cli.main import app

answers = {}
for name, words in json.load(sys.stdin).items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app(words)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            code, _ = 99, err.write(f"Traceback: {error!r}")
    answers[name] = code, out.getvalue(), err.getvalue()
json.dump(answers, sys.__stdout__)
assert "torch" not in sys.modules
"""
DRAWINGS = str(REPOSITORY / "examples" / "drawings")
NEW = str(REPOSITORY / "examples" / "new_drawings")
WORKING = {
    "version": ["--version"],
    "help": ["adapt", "--help"],
    "doctor": ["doctor", DRAWINGS],
    "adapt": ["adapt", "--engine", "onnx", "--init", "learner.onnx", "--support", DRAWINGS, "--output", "own.onnx"],
    "adapt by name": ["adapt", "--engine", "onnx", "--init", "omniglot", "--support", DRAWINGS, "--output", "b.onnx"],
    "adapt photo": ["adapt", "--engine", "onnx", "--init", "photo", "--support", DRAWINGS, "--output", "p.onnx"],
    "predict": ["predict", "own.onnx", f"{NEW}/fish1.png"],
    "predict a folder": ["predict", "own.onnx", NEW, "--csv", "t.csv", "--top", "2", "--copy-to", "sorted"],
    "test": ["test", "model.onnx", "shapes", "--html", "test.html"],
    "edit": ["edit", "model.onnx", "--rename", "ant=wasp", "--threshold", "0.6", "--output", "edited.onnx"],
    "demo": ["demo", "--init", "learner.onnx", "--output", "site"],
    "demo by name": ["demo", "--init", "omniglot", "--output", "other-site"],
    "studio": ["studio", "--output", "studio-site"],
    "info": ["info", "own.onnx"],
    "info of an initialization": ["info", "photo"],
    "models": ["models"],
    "recipe": ["recipe", "omniglot"],
    "runs": ["runs", "."],
    "sharing": ["pull", "nobody/nothing"],  # reaches the Hub's client, which finds no Hub
    "no server": ["serve", "model.onnx"],
}
HEAVY = {
    "meta-train": ["meta-train", "--preset", "glyphs", "--output", "o"],
    "evaluate": ["evaluate", "omniglot"],
    "compare": ["compare", "omniglot", "omniglot-5way"],
    "adapt": ["adapt", "--support", DRAWINGS, "--output", "o"],
    "export": ["export", "model", "--output", "o.onnx"],
    "export-learner": ["export-learner", "omniglot", "--output", "o.onnx"],
    "predict": ["predict", "model", f"{NEW}/fish1.png"],
    "test": ["test", "model", "shapes"],
    "edit": ["edit", "model", "--threshold", "0.5"],
    "verify": ["verify", "model"],
    "push": ["push", "init", "user/repo"],
}
Answer = tuple[int, str, str]


def python(site: Path, *words: str, cwd: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Python with the packages of a light environment alone, and this repository."""
    paths = os.pathsep.join(map(str, (site, REPOSITORY, REPOSITORY / "cli")))
    environment = {**os.environ, "PYTHONPATH": paths, "FEWSHOT_HUB_SECONDS": "1"}
    return subprocess.run(
        [sys.executable, "-S", "-P", *words], input=given, cwd=cwd, env=environment,
        capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return light_site(tmp_path_factory.mktemp("light") / "site")


@pytest.fixture(scope="module")
def answers(site: Path, tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> dict[str, Answer]:
    """Exit code, stdout and stderr of each command, all run by one process in one folder."""
    folder = tmp_path_factory.mktemp("work")
    shapes = draw_folder(folder / "shapes")
    classifier = adapt(init, shapes, steps=2, reject_rate=None)
    export_onnx(classifier, folder / "model.onnx")
    export_learner(init, folder / "learner.onnx")
    save(classifier, folder / "model")
    save(init, folder / "init")
    commands = {**WORKING, **{f"{name} with PyTorch": words for name, words in HEAVY.items()}}
    done = python(site, "-c", PROGRAM, cwd=folder, given=json.dumps(commands))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {name: (answer[0], answer[1], answer[2]) for name, answer in found.items()}


def test_pytorch_is_not_there(site: Path, tmp_path: Path) -> None:
    assert not (site / "torch").exists()
    assert "No module named 'torch'" in python(site, "-c", "import torch", cwd=tmp_path).stderr


@pytest.mark.parametrize("name", sorted(WORKING.keys() - {"sharing", "no server"}))
def test_a_command_that_needs_no_pytorch_works(answers: dict[str, Answer], name: str) -> None:
    code, _, err = answers[name]
    assert code == 0, err


def test_the_hub_can_be_asked(answers: dict[str, Answer]) -> None:
    code, _, err = answers["sharing"]
    assert code == 1
    assert err.startswith("error: cannot reach http://127.0.0.1:9 for nobody/nothing")


def test_a_server_names_its_extra(answers: dict[str, Answer]) -> None:
    code, _, err = answers["no server"]
    assert code == 1
    assert err.startswith("error: fewshot serve needs ")
    assert err.endswith(", which is not installed: pip install 'fewshot-sdk[serve]'\n")


@pytest.mark.parametrize("name", HEAVY)
def test_a_command_that_needs_pytorch_says_so_in_one_sentence(answers: dict[str, Answer], name: str) -> None:
    code, out, err = answers[f"{name} with PyTorch"]
    assert (code, out) == (1, "")
    said = f"error: fewshot {name} needs PyTorch, which is not installed: pip install 'fewshot-sdk[torch]'"
    assert err.splitlines()[-1].startswith(said)
    assert "Traceback" not in err


def test_the_python_names_that_need_pytorch_say_so_and_the_others_work(site: Path, tmp_path: Path) -> None:
    program = """
import fewshot_sdk
light, heavy = [], []
for name in fewshot_sdk.__all__:
    try:
        getattr(fewshot_sdk, name)
        light.append(name)
    except fewshot_sdk.FewshotError as error:
        expected = "needs PyTorch, which is not installed: pip install 'fewshot-sdk[torch]'"
        assert str(error) == f"fewshot_sdk.{name} {expected}"
        heavy.append(name)
try:
    fewshot_sdk.push("omniglot", "user/repo")
except fewshot_sdk.FewshotError as error:
    assert "fewshot_sdk.push needs PyTorch" in str(error), error
print(*light)
print(*heavy)
"""
    done = python(site, "-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    light, heavy = map(str.split, done.stdout.splitlines())
    assert {"Predictor", "Learner", "DeltaPredictor", "adapt_to_onnx", "preset", "pull", "push", "save"} <= set(light)
    assert {"adapt", "load", "load_classifier", "export_onnx", "export_learner", "meta_train", "evaluate"} <= set(heavy)


@pytest.mark.slow
def test_a_wheel_installed_with_pip_alone_is_light_and_predicts(tmp_path: Path, init: Initialization) -> None:
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    assert "Provides-Extra: torch" in _metadata(wheel)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [str(tmp_path / "venv" / "bin" / "pip"), "install", "--quiet", "-c", str(REPOSITORY / "constraints.txt")]
    subprocess.run([*pip, f"{wheel}[serve]"], check=True, cwd=tmp_path)
    installed = {path.name for path in (tmp_path / "venv").glob("lib/python3*/site-packages/*")}
    assert {"fewshot_sdk", "onnxruntime", "starlette"} <= installed
    assert not installed & {"torch", "torchvision", "sympy", "timm"}
    size = sum(path.stat().st_size for path in (tmp_path / "venv").rglob("*") if path.is_file())
    assert size < 400e6
    export_onnx(adapt(init, draw_folder(tmp_path / "shapes"), steps=2, reject_rate=None), tmp_path / "model.onnx")
    fewshot = str(tmp_path / "venv" / "bin" / "fewshot")
    for words in (["--help"], ["predict", "model.onnx", "shapes", "--recursive"], ["serve", "--help"]):
        done = subprocess.run([fewshot, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()
