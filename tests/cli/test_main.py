from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fewshot_sdk.config.datasets import DATASETS
from fewshot_sdk.config.presets import PRESETS
from fewshot_sdk.config.regression import NUMBER_PRESETS
from tests.conftest import Run, draw_folder


def test_the_whole_line(run: Run, tmp_path: Path, drawings: Path) -> None:
    init, model, file = tmp_path / "init", tmp_path / "model", tmp_path / "model.onnx"
    code, out, err = run(
        "meta-train", "--preset", "glyphs", "--meta-steps", 3, "--seed", 4, "--workers", "auto", "--output", init
    )
    assert (code, out) == (0, "")
    assert f"next: fewshot adapt --init {init}" in err
    config = json.loads((init / "config.json").read_text())
    assert config["provenance"]["command"] == "fewshot meta-train --preset glyphs --meta-steps 3 --seed 4"
    assert config["provenance"]["meta_steps_done"] == 3

    code, out, err = run("evaluate", init, "--ways", 3, "--shots", 2, "--tasks", 4, "--json")
    assert code == 0
    said = json.loads(out)
    assert set(said) == {"accuracy", "ci95", "tasks", "ways", "shots", "mode", "seed", "part"}
    assert said["accuracy"] * 4 * 3 == pytest.approx(round(said["accuracy"] * 4 * 3), abs=1e-12)  # of 12 queries
    assert (said["tasks"], said["ways"], said["shots"], said["mode"]) == (4, 3, 2, "inductive")

    code, out, err = run("adapt", "--support", drawings, "--init", init, "--steps", 7, "--output", model, "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["labels"], said["images"], said["steps"]) == (["ant", "bee", "cat"], 12, 7)

    code, out, err = run("export", model, "--output", file, "--json")
    assert code == 0
    assert json.loads(out)["bytes"] == file.stat().st_size
    assert "differ by at most" in err

    new = sorted(draw_folder(tmp_path / "new", first=4).glob("*/*.png"))
    code, out, _ = run("predict", file, *new, "--json")
    assert code == 0
    from_onnx = json.loads(out)
    assert [Path(said["image"]) for said in from_onnx] == new
    assert all(said["probabilities"][said["nearest"]] == said["probability"] for said in from_onnx)
    assert all(said["label"] in (said["nearest"], None) for said in from_onnx)
    code, out, _ = run("predict", model, *new, "--json")
    for left, right in zip(from_onnx, json.loads(out), strict=True):
        assert left["label"] == right["label"]
        assert left["probabilities"] == pytest.approx(right["probabilities"], abs=1e-4)


def test_no_output_is_ever_overwritten(run: Run, saved: Path, model: Path, drawings: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for words in (
        ["meta-train", "--preset", "glyphs", "--output", saved],
        ["adapt", "--support", drawings, "--init", saved, "--output", model],
        ["adapt", "--support", drawings, "--init", saved, "--output", drawings],
        ["export", model, "--output", tmp_path / "model.onnx"],
    ):
        code, _, err = run(*words)
        assert code == 1
        assert "name a new --output" in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_version_is_the_packages(run: Run) -> None:
    import fewshot_sdk

    assert run("--version")[:2] == (0, f"{fewshot_sdk.__version__}\n")


def test_help_names_what_the_tables_hold(run: Run) -> None:
    open_ones = [name for name, row in DATASETS.items() if row.read]
    for command, names in (
        ("meta-train", [*PRESETS, *NUMBER_PRESETS]),
        ("evaluate", open_ones),
        ("compare", open_ones),
    ):
        said = re.sub(r"-\n\s+", "-", run(command, "--help")[1])  # names broken at a hyphen
        words = set(re.split(r"[\s,.;]+", said))
        assert not [name for name in names if name not in words], command
