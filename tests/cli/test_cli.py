from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_cli import adapting
from fewshot_cli.main import app
from fewshot_sdk import load
from fewshot_sdk.config import presets
from fewshot_sdk.errors import SaveError
from fewshot_sdk.storage.files import write_folder
from tests.conftest import Run, draw_folder, tiny_recipe


@pytest.fixture
def model(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> Path:
    words = ("--support", drawings, "--init", saved, "--steps", 10, "--reject-rate", 0)
    assert run("adapt", *words, "--output", tmp_path / "model")[0] == 0
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def _tiny_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "glyphs", tiny_recipe())
    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 40)


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


def test_baselines_are_measured_instead_of_the_initialization_and_recorded_beside_it(run: Run, saved: Path) -> None:
    words = ("evaluate", saved, "--ways", 3, "--tasks", 3, "--seed", 5)
    assert run(*words, "--record")[0] == 0
    code, out, _ = run(*words, "--baseline", "all", "--record", "--json")
    assert (code, [row["baseline"] for row in json.loads(out)]) == (0, ["prototypes", "probe", "random"])
    code, out, _ = run(*words, "--baseline", "random")
    assert (code, "by random initialization, same steps" in out) == (0, True)
    assert [e.baseline for e in load(saved).evaluations] == [None, "probe", "prototypes", "random"]
    assert run("verify", saved)[0] == 0


def test_adapting_tells_what_it_compared_and_why_it_chose(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    code, out, err = run("adapt", "--support", drawings, "--init", saved, "--output", tmp_path / "m", "--json")
    assert code == 0
    said = json.loads(out)
    tried = [(trial["method"], trial["steps"]) for trial in said["comparison"]]
    assert tried == [("prototypes", 0), ("probe", 0), ("reptile", 5), ("reptile", 10), ("reptile", 20)]
    assert (said["method"], said["steps"]) in tried
    assert all(trial["seconds"] > 0 for trial in said["comparison"])
    assert said["calibration"]["reject_rate"] == 0.05
    assert said["reason"] in err.splitlines()
    lines = [line for line in err.splitlines() if not line.startswith("cross-validating: ")]  # on a slow machine
    table = [line.split() for line in lines[:6]]
    assert [row[0] for row in table] == ["method", "prototypes", "probe", "reptile", "reptile", "reptile"]
    card = (tmp_path / "m" / "README.md").read_text()
    assert "## What was compared" in card
    assert "| AUROC against classes left out |" in card


def test_one_picture_a_class_is_told_and_takes_the_default(run: Run, saved: Path, tmp_path: Path) -> None:
    one = draw_folder(tmp_path / "one", shots=1)
    code, out, err = run("adapt", "--support", one, "--init", saved, "--output", tmp_path / "m", "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["method"], said["temperature"], said["threshold"], said["comparison"]) == ("reptile", 1, 0, [])
    assert "cannot cross-validate with one picture a class" in err
    assert "took reptile from glyphs, temperature 1" in err


def test_what_is_unknown_is_told_with_the_nearest_label(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    words = ("--support", drawings, "--init", saved, "--method", "probe", "--reject-rate", 0.9)
    assert run("adapt", *words, "--output", tmp_path / "m")[0] == 0
    blank = tmp_path / "blank.png"
    Image.fromarray(np.full((60, 60), 255, np.uint8)).save(blank)
    _, out, _ = run("predict", tmp_path / "m", blank)
    assert re.fullmatch(r".*blank\.png +unknown \(nearest: (ant|bee|cat) \d+\.\d%\)\n", out)
    said = json.loads(run("predict", tmp_path / "m", blank, "--json")[1])[0]
    assert said["label"] is None
    assert said["probabilities"][said["nearest"]] == said["probability"]


def test_a_class_is_added_to_a_classifier(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    more = draw_folder(tmp_path / "more", ("dog",), first=4)
    words = ("--support", drawings, "--init", saved, "--method", "prototypes")
    assert run("adapt", *words, "--no-keep-pictures", "--output", tmp_path / "lean")[0] == 0
    assert run("adapt", "--support", drawings, "--init", saved, "--steps", 3, "--output", tmp_path / "m")[0] == 0
    for model, says in (("lean", "added to the sums"), ("m", "adapted again to the old pictures and the new")):
        new = tmp_path / f"{model}2"
        code, out, err = run(
            "adapt", "--extend", tmp_path / model, "--support", more, "--init", saved, "--output", new, "--json"
        )
        assert code == 0
        assert json.loads(out)["labels"] == ["ant", "bee", "cat", "dog"]
        assert says in err
    assert run("export", tmp_path / "lean2", "--output", tmp_path / "lean.onnx")[0] == 0  # checked on noise
    code, _, err = run("adapt", "--extend", tmp_path / "m", "--support", more, "--output", tmp_path / "o")
    assert code == 1
    assert "name its folder with --init" in err


def test_what_is_added_is_looked_at_first(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    model = tmp_path / "m"
    assert run("adapt", "--support", drawings, "--init", saved, "--steps", 2, "--output", model)[0] == 0
    (tmp_path / "more").mkdir()
    shutil.copy(drawings / "ant" / "0.png", tmp_path / "more" / "elk_1.png")
    words = ("--extend", model, "--init", saved, "--support", tmp_path / "more", "--label-from", "name")
    code, _, err = run("adapt", *words, "--output", tmp_path / "x")
    assert (code, (tmp_path / "x").exists()) == (1, False)
    assert "elk_1.png is already among the pictures of ant, not of elk; remove it" in err
    (tmp_path / "more" / "elk_1.png").rename(tmp_path / "more" / "ant_1.png")
    code, _, err = run("adapt", *words, "--output", tmp_path / "y")
    assert code == 0
    assert "warning: " in err
    assert "ant_1.png is already among the pictures of ant; remove it" in err
    assert "is already among the pictures" in (tmp_path / "y" / "report.html").read_text()


def test_one_picture_a_class_becomes_a_classifier_that_can_say_unknown(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    one = draw_folder(tmp_path / "one", shots=1)
    assert run("adapt", "--support", one, "--init", saved, "--output", tmp_path / "m")[0] == 0
    more = draw_folder(tmp_path / "more", shots=3, first=1)
    words = ("--extend", tmp_path / "m", "--init", saved, "--support", more)
    code, out, _ = run("adapt", *words, "--output", tmp_path / "n", "--json")
    assert code == 0
    assert json.loads(out)["calibration"]["reject_rate"] == 0.05


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("x" * 300, "file name too long; name another --output"),
        ("file/x", "file is a file, not a folder; name another"),
    ],
)
def test_an_output_that_cannot_be_is_told_before_the_work(
    run: Run, saved: Path, tmp_path: Path, output: str, says: str
) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run("adapt", "--support", tmp_path / "none", "--init", saved, "--output", tmp_path / output)
    assert code == 1
    assert says in err


def test_what_names_hold_beyond_text_is_shown_escaped(run: Run, tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "set")
    (folder / "ant" / "no\x1b[31m.png").write_bytes(b"none")
    code, out, _ = run("doctor", folder)
    assert code == 1
    assert "no\\x1b[31m.png is not a picture" in out
    (folder / "ant" / "no\x1b[31m.png").unlink()
    (folder / "cat").rename(folder / "ca\nt")
    code, _, err = run("doctor", folder)
    assert code == 1
    assert "the class name 'ca\\nt' contains control characters" in err


def test_steps_are_reptiles(run: Run, drawings: Path, tmp_path: Path) -> None:
    code, _, err = run("adapt", "--support", drawings, "--method", "probe", "--steps", 5, "--output", tmp_path / "m")
    assert code == 2
    assert "--steps are Reptile's; --method probe takes none" in err


def test_people_get_lines(run: Run, model: Path, saved: Path, drawings: Path) -> None:
    code, out, err = run("predict", model, drawings / "ant" / "0.png", drawings / "bee" / "1.png")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2
    assert out.splitlines()[0].startswith(str(drawings / "ant" / "0.png"))
    assert out.splitlines()[0].endswith("%")
    code, out, _ = run("evaluate", saved, "--tasks", 2, "--transductive")
    assert code == 0
    assert out.endswith("% (5-way 1-shot transductive, 2 tasks, seed 0)\n")


def test_all_modes_in_one_run_are_a_list(run: Run, saved: Path) -> None:
    code, out, _ = run("evaluate", saved, "--tasks", 3, "--mode", "all", "--json")
    assert code == 0
    together = json.loads(out)
    assert [said["mode"] for said in together] == ["transductive", "inductive", "frozen"]
    code, out, _ = run("evaluate", saved, "--tasks", 3, "--mode", "frozen", "--json")
    assert json.loads(out) == together[2]
    assert json.loads(run("evaluate", saved, "--tasks", 3, "--transductive", "--json")[1]) == together[0]
    assert json.loads(run("evaluate", saved, "--tasks", 3, "--json")[1]) == together[1]


def test_a_result_can_be_recorded_on_the_card(run: Run, saved: Path) -> None:
    weights = (saved / "model.safetensors").read_bytes()
    assert run("evaluate", saved, "--tasks", 2, "--shots", 3, "--record")[0] == 0
    assert "| glyphs 5-way 3-shot | inductive |" in (saved / "README.md").read_text()
    assert (saved / "model.safetensors").read_bytes() == weights
    assert run("evaluate", saved, "--tasks", 2)[0] == 0  # and it still loads


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["meta-train", "--preset", "imagenet", "--output", "o"],
            "no preset 'imagenet'; the presets are omniglot-5way",
        ),
        (
            ["meta-train", "--preset", "omniglot", "--root", ".", "--output", "o"],
            "images_background.zip: no such file",
        ),
        (["evaluate", "nowhere"], "no initialization 'nowhere'"),
        (["adapt", "--support", "nowhere", "--output", "o"], "nowhere: there is no such folder"),
        (["export", "nowhere", "--output", "o.onnx"], "nowhere: no such folder"),
        (["predict", "nowhere.onnx", "p.png"], "nowhere.onnx: no such file or directory"),
    ],
)
def test_a_known_failure_is_one_line_and_exit_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert says in last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["adapt"],
        ["adapt", "--support"],
        ["fly"],
        ["evaluate", "omniglot", "--tasks", "none"],
        ["evaluate", "omniglot", "--ways", "1"],
        ["evaluate", "omniglot", "--mode", "all", "--inductive"],
        ["evaluate", "omniglot", "--mode", "magic"],
        ["meta-train", "--preset", "glyphs", "--output", "o", "--meta-steps", "-1"],
        ["meta-train", "--preset", "glyphs", "--output", "o", "--workers", "0"],
        ["evaluate", "omniglot", "--workers", "many"],
        ["adapt", "--support", "s", "--output", "o", "--steps", "-1"],
        ["adapt", "--support", "s", "--output", "o", "--reject-rate", "1"],
        ["adapt", "--support", "s", "--output", "o", "--extend", "m", "--method", "probe"],
    ],
)
def test_wrong_usage_is_exit_2(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "Error:" in err


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


def test_debug_shows_where_it_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="there is no such folder"):
        app(["adapt", "--support", "nowhere", "--output", "o", "--debug"])


def test_ctrl_c_is_exit_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adapting, "predict", interrupt)
    code, out, err = run("predict", "m.onnx", "p.png")
    assert (code, out, err) == (130, "", "interrupted\n")


def test_where_there_is_no_torch_it_says_so(run: Run, drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(adapting, "adapt", missing)
    code, _, err = run("adapt", "--support", drawings, "--output", "o")
    assert (code, err) == (1, "error: this command needs torch, which is not installed here; pip install torch\n")


def test_the_version_is_the_packages(run: Run) -> None:
    import fewshot_sdk

    assert run("--version")[:2] == (0, f"{fewshot_sdk.__version__}\n")


def test_progress_elsewhere_than_on_a_terminal_is_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewshot_cli import output

    monkeypatch.setattr(output, "PLAIN_SECONDS", 0.0)
    assert list(output.progress(iter("abc"), 3, "spelling", str.upper)) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"spelling: {i} of 3" for i in (1, 2, 3)]
    assert not any("\x1b" in line or "\r" in line for line in lines)
