"""Install the wheel for each Python that is here and let it doctor, adapt and predict, without PyTorch.

Takes the network, or a pip cache, and two minutes a Python. All must give the same predictions, also under -W error.
Usage: pythons.py [INTERPRETER...]   without any: every python3.11 to python3.14 in PATH and in pyenv
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import REPOSITORY

VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def interpreters() -> list[str]:
    """One for each version that is found."""
    found = []
    for version in VERSIONS:
        pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python3"))
        if path := str(pyenv[-1]) if pyenv else shutil.which(f"python{version}"):
            found.append(path)
    return found


def built(folder: Path) -> Path:
    """The wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def smoke(interpreter: str, wheel: Path, home: Path) -> tuple[str, object]:
    """The version of an interpreter, and what the command predicts there."""
    subprocess.run([interpreter, "-m", "venv", str(home / "venv")], check=True)
    python = str(home / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", str(REPOSITORY / "constraints.txt"), str(wheel)], check=True)

    def fewshot(*words: object, options: tuple[str, ...] = ()) -> str:
        command = [python, *options, "-P", "-m", "fewshot_cli.main", *map(str, words)]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode or "Warning" in done.stderr:
            raise SystemExit(f"{interpreter}: {words[0]}: exit code {done.returncode}: {done.stderr}")
        return done.stdout

    examples, model = REPOSITORY / "examples", home / "model.onnx"
    new = sorted((examples / "new_drawings").glob("*.png"))
    fewshot("doctor", examples / "drawings")
    fewshot("adapt", "--engine", "onnx", "--init", "omniglot", "--support", examples / "drawings", "--output", model)
    fewshot("info", model)
    predicted = fewshot("predict", model, *new, "--json")
    if fewshot("predict", model, *new, "--json", options=("-W", "error")) != predicted:
        raise SystemExit(f"{interpreter}: -W error: another answer")
    version = subprocess.run([python, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return version, [(each["label"], round(each["probability"], 4)) for each in json.loads(predicted)]


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheel = built(Path(folder))
        answers = []
        for number, interpreter in enumerate(wanted):
            home = Path(folder) / str(number)
            home.mkdir()
            version, answer = smoke(interpreter, wheel, home)
            answers.append(answer)
            sys.stdout.write(f"{version}: as expected\n" if answer == answers[0] else f"{version}: other answers\n")
            sys.stdout.flush()
    if any(answer != answers[0] for answer in answers):
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:] or interpreters())
