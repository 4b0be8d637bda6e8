"""`make demo`: the first thing that anyone sees."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Run


def commands(page: str, prompt: str) -> list[str]:
    """The commands of the demo on a page, in order."""
    lines = [line.strip() for line in (REPOSITORY / page).read_text().splitlines()]
    return [line.removeprefix(prompt) for line in lines if line.startswith(prompt) and " demo/" in line]


def right(run: Run, folder: Path, seed: int, **instead: str) -> int:
    """How many of the ten new drawings the demo recognizes, with another seed and other values of some options."""
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    for command in commands("Makefile", "$(FEWSHOT) "):
        words = shlex.split(command)
        for option, value in instead.items():
            if f"--{option}" in words:
                words[words.index(f"--{option}") + 1] = value
        if words[0] in ("meta-train", "adapt"):
            words += ["--seed", str(seed)]
        files = [str(path) for word in words for path in (sorted(Path().glob(word)) if "*" in word else [word])]
        code, out, err = run(*files)
        assert code == 0, err
    answers = re.findall(r"^\S*/([a-z]+)\d\.png +(.*?)  ", out, re.MULTILINE)
    assert len(answers) == 10
    return sum(truth == label for truth, label in answers)


def test_the_readme_has_the_demos_commands() -> None:
    demo = commands("Makefile", "$(FEWSHOT) ")
    assert [command.split()[0] for command in demo] == ["meta-train", "adapt", "export", "predict"]
    assert commands("README.md", "fewshot ") == demo


def test_with_few_characters_and_steps_the_demo_is_mostly_right(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 100)
    monkeypatch.chdir(tmp_path)
    assert right(run, tmp_path, 0, **{"meta-steps": "200"}) >= 6  # chance is 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_is_right_on_29_of_30_drawings_over_three_seeds(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        found.append(right(run, folder, seed))
    assert sum(found) >= 29, found
