"""`fewshot runs`; what it lists is tested in tests/storage/test_runs.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_sdk import save
from fewshot_sdk.artifacts.initialization import Initialization, save_checkpoint
from tests.conftest import Run
from tests.storage.test_runs import POINTS, at


@pytest.fixture
def _runs(init: Initialization, tmp_path: Path) -> None:
    made = init.provenance.replace(seconds=3661.0)
    save(replace(init, metrics=POINTS, provenance=made), tmp_path / "whole")
    save_checkpoint(at(init, 4), tmp_path / "part.checkpoint")
    (tmp_path / "bad.checkpoint").write_bytes(b"none")


@pytest.mark.usefixtures("_runs")
def test_each_training_is_a_row(run: Run, tmp_path: Path) -> None:
    code, out, err = run("runs", tmp_path)
    assert (code, err) == (0, "")
    first, *rows = out.splitlines()
    assert first.split() == ["run", "state", "step", "accuracy", "best", "time", "recipe", "data"]
    text = {row.split()[0]: " ".join(row.split()) for row in rows}
    assert text["whole"] == ("whole finished 2 of 2 50.0% ± 10.0% 90.0% at 1 1:01:01 glyphs glyphs, split seeded")
    assert text["part"] == "part interrupted 4 of 9 1:02 glyphs glyphs, split seeded"
    assert text["bad"].startswith("bad damaged ")
    assert "is not a checkpoint, or is damaged" in text["bad"]


@pytest.mark.usefixtures("_runs")
def test_as_json(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("runs", tmp_path, "--json")
    assert code == 0
    found = {item["name"]: item for item in json.loads(out)}
    assert {name: item["state"] for name, item in found.items()} == {
        "whole": "finished", "part": "interrupted", "bad": "damaged",
    }  # fmt: skip
    whole = found["whole"]
    assert whole["best"] == {"step": 1, "accuracy": 0.9, "ci95": 0.1}
    assert (whole["done"], whole["total"], whole["seconds"]) == (2, 2, 3661.0)
    assert found["part"]["last"] is None


def test_a_folder_without_trainings_or_none_at_all(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("runs")
    assert (code, out) == (0, "")
    assert err == f"no trainings in {tmp_path}; fewshot meta-train --output DIR makes one\n"
    assert run("runs", "--json")[:2] == (0, "[]\n")
    code, _, err = run("runs", "none")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: none: no such file or directory; expected a folder")
