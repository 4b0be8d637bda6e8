from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_sdk import load
from fewshot_sdk.errors import SaveError
from fewshot_sdk.storage.files import write_folder
from tests.conftest import Run


def test_training_draws_how_it_went(run: Run, tmp_path: Path) -> None:
    words = ["meta-train", "--preset", "glyphs", "--meta-steps", 5, "--evaluate-every", 2]
    assert run(*words, "--output", tmp_path / "init")[0] == 0
    found = [json.loads(line) for line in (tmp_path / "init" / "metrics.jsonl").read_text().splitlines()]
    assert [metric["meta_steps"] for metric in found] == [2, 4, 5]
    assert all(0 < m["accuracy"] <= 1 and m["tasks"] == 200 and 0 < m["loss"] < 3 for m in found)
    assert all(100 < metric["memory_mb"] < 10_000 for metric in found)  # PyTorch alone takes the first
    assert (tmp_path / "init" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert len(load(tmp_path / "init").metrics) == 3

    assert run("evaluate", tmp_path / "init", "--tasks", 2, "--record")[0] == 0
    kept = load(tmp_path / "init")
    assert (len(kept.metrics), len(kept.evaluations)) == (3, 1)
    assert (tmp_path / "init" / "curve.png").exists()

    assert run(*words[:-1], 0, "--output", tmp_path / "plain")[0] == 0
    assert {"metrics.jsonl", "curve.png"}.isdisjoint(path.name for path in (tmp_path / "plain").iterdir())


def test_training_is_not_lost_when_the_disk_refuses(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, contents: dict[str, bytes]) -> Path:
        if folder == tmp_path / "init":
            raise SaveError(f"could not write {folder}: no space left on device")
        return write_folder(folder, contents)

    monkeypatch.setattr("fewshot_cli.training.write_folder", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, _, err = run("meta-train", "--preset", "glyphs", "--output", tmp_path / "init")
    assert code == 1
    assert "no space left on device; what was trained is kept in" in err
    kept = Path(err.strip().rpartition(" ")[2])
    assert run("evaluate", kept, "--tasks", 2)[0] == 0
