from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_cli.explanations import file_names
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


def test_explain_writes_each_picture_beside_its_heat_map_the_same_from_a_folder_and_from_a_file(
    run: Run, model: Path, drawings: Path, tmp_path: Path
) -> None:
    pictures = [drawings / "ant" / "0.png", drawings / "bee" / "0.png", drawings / "bee" / "1.png"]
    assert run("export", model, "--output", tmp_path / "m.onnx", "--heat-map")[0] == 0
    for source, folder in ((model, tmp_path / "one"), (tmp_path / "m.onnx", tmp_path / "two")):
        code, out, err = run("predict", source, *pictures, "--explain", folder)
        assert (code, len(out.splitlines())) == (0, 3)
        assert err.endswith(f"wrote {folder}: 3 pictures beside a heat map\n")
        assert sorted(file.name for file in folder.iterdir()) == ["1.png", "ant_0.png", "bee_0.png"]
    for name in ("1.png", "ant_0.png", "bee_0.png"):
        one, two = (np.asarray(Image.open(tmp_path / which / name), np.int64) for which in ("one", "two"))
        assert one.shape == two.shape
        assert np.abs(one - two).max() <= 2
        left, right = one[12:492, 12:492], one[12:492, 504:984]
        assert (left.std(2) == 0).all()  # the drawing itself has no colour
        assert (right.std(2) > 0).mean() > 0.1


def test_explain_names_the_files_in_json_and_never_overwrites(
    run: Run, model: Path, drawings: Path, tmp_path: Path
) -> None:
    words = ("predict", model, drawings / "ant" / "0.png", "--explain", tmp_path / "maps")
    (row,) = json.loads(run(*words, "--json")[1])
    assert row["heat_map"] == str(tmp_path / "maps" / "0.png")
    assert Path(row["heat_map"]).is_file()
    before = Path(row["heat_map"]).read_bytes()
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert "already holds something" in err
    assert Path(row["heat_map"]).read_bytes() == before


def test_a_file_without_a_heat_map_is_not_explained(run: Run, model: Path, drawings: Path, tmp_path: Path) -> None:
    assert run("export", model, "--output", tmp_path / "m.onnx")[0] == 0
    code, _, err = run("predict", tmp_path / "m.onnx", drawings / "ant" / "0.png", "--explain", tmp_path / "maps")
    assert code == 1
    assert f"{tmp_path / 'm.onnx'} has no heat map; make it anew with fewshot export --heat-map" in err
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a/x.jpg", "b/y.jpg"], ["x.png", "y.png"]),
        (["a/x.jpg", "b/X.png"], ["a_x.png", "b_X.png"]),
        (["a/x.jpg", "a/x.png", "a/x.jpg"], ["a_x.png", "a_x-2.png", "a_x-3.png"]),
        (["été/../$(rm).png", "..."], ["rm.png", "picture.png"]),
        (["a/été.png", f"{'z' * 200}.png"], ["été.png", f"{'z' * 60}.png"]),
    ],
)
def test_heat_maps_get_plain_names_of_their_own(given: list[str], expected: list[str]) -> None:
    assert file_names([Path(name) for name in given]) == expected
