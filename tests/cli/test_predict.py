from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import Run


def test_an_unknown_picture_is_reported_with_the_nearest_label(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    words = ("--support", drawings, "--init", saved, "--method", "probe", "--reject-rate", 0.9)
    assert run("adapt", *words, "--output", tmp_path / "m")[0] == 0
    blank = tmp_path / "blank.png"
    Image.fromarray(np.full((60, 60), 255, np.uint8)).save(blank)
    _, out, _ = run("predict", tmp_path / "m", blank)
    assert re.fullmatch(r".*blank\.png +unknown \(nearest: (ant|bee|cat) \d+\.\d%\)\n", out)
    said = json.loads(run("predict", tmp_path / "m", blank, "--json")[1])[0]
    assert said["label"] is None
    assert said["probabilities"][said["nearest"]] == said["probability"]


def test_without_json_the_output_is_lines(run: Run, model: Path, saved: Path, drawings: Path) -> None:
    code, out, err = run("predict", model, drawings / "ant" / "0.png", drawings / "bee" / "1.png")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2
    assert out.splitlines()[0].startswith(str(drawings / "ant" / "0.png"))
    assert out.splitlines()[0].endswith("%")
    code, out, _ = run("evaluate", saved, "--tasks", 2, "--transductive")
    assert code == 0
    assert out.endswith("% (5-way 1-shot transductive, 2 tasks, seed 0)\n")
