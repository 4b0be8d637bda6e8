"""`fewshot predict` on folders, patterns and streams: tables, and pictures sorted by label."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_cli.answers import plain_path
from fewshot_sdk import adapt, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization
from tests.conftest import REPOSITORY, Run, draw_folder

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
COMMAND = [sys.executable, "-m", "fewshot_cli.main", "predict"]


@pytest.fixture(scope="module")
def onnx(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    classifier = adapt(init, draw_folder(folder / "support"), method="probe", reject_rate=None)
    return export_onnx(classifier, folder / "m.onnx").path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six pictures, three of them in a folder inside and with the names of the others."""
    monkeypatch.chdir(tmp_path)
    drawn = draw_folder(tmp_path / "drawn", shots=2, first=9)
    for i, label in enumerate(("ant", "bee", "cat")):
        for folder, shot in ((tmp_path / "photos", 9), (tmp_path / "photos" / "in", 10)):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(drawn / label / f"{shot}.png", folder / f"{i}.png")
    return Path("photos")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def table() -> list[dict[str, str]]:
    with Path("t.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_gives_the_lines_of_its_pictures_named_one_by_one(run: Run, onnx: Path, photos: Path) -> None:
    named = run("predict", onnx, *(photos / f"{i}.png" for i in range(3)))
    code, out, err = run("predict", onnx, photos)
    assert (code, out) == named[:2]
    assert named[2] == ""
    assert err.startswith("3 pictures in ")
    assert run("predict", onnx, "photos/*.png")[1] == out


def test_recursive_looks_into_folders(run: Run, onnx: Path, photos: Path) -> None:
    assert len(run("predict", onnx, photos, "--recursive")[1].splitlines()) == 6


def test_the_classifiers_folder_answers_alike(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    assert run("export", model, "--output", tmp_path / "m.onnx")[0] == 0
    one, two = (run("predict", source, photos, "--recursive") for source in (model, tmp_path / "m.onnx"))
    assert one[0] == two[0] == 0
    assert one[1] == two[1]


def test_names_come_from_standard_input(run: Run, onnx: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/1.png\0photos/0.png\0")))
    code, out, _ = run("predict", onnx, "-", "--json-lines")
    assert code == 0
    assert [json.loads(line)["image"] for line in out.splitlines()] == ["photos/1.png", "photos/0.png"]


def test_the_table_has_a_row_for_each_picture(run: Run, onnx: Path, photos: Path) -> None:
    (photos / "bad.png").write_text("no picture")
    code, out, err = run("predict", onnx, photos, "--csv", "t.csv", "--top", 5)
    assert (code, out) == (0, "")
    assert "wrote t.csv" in err
    assert "1 picture of 4 could not be read:\n  photos/bad.png is not a picture" in err
    rows = table()
    assert [row["path"] for row in rows] == ["photos/0.png", "photos/1.png", "photos/2.png", "photos/bad.png"]
    found = json.loads(run("predict", onnx, photos / "0.png", "--json")[1])[0]
    assert rows[0]["label"] == rows[0]["nearest"] == found["label"]
    assert float(rows[0]["probability"]) == pytest.approx(found["probability"], rel=1e-5)
    ranked = sorted(found["probabilities"].items(), key=lambda pair: -pair[1])
    assert [rows[0][f"label{i}"] for i in (2, 3)] == [label for label, _ in ranked[1:]]
    assert rows[0]["label4"] == rows[0]["error"] == rows[3]["label"] == ""
    assert rows[3]["error"].startswith("photos/bad.png is not a picture")


def test_the_table_on_standard_output_is_the_same(run: Run, onnx: Path, photos: Path) -> None:
    run("predict", onnx, photos, "--csv", "t.csv")
    assert run("predict", onnx, photos, "--csv", "-")[1] == Path("t.csv").read_text(encoding="utf-8")


def test_a_table_is_never_overwritten(run: Run, onnx: Path, photos: Path) -> None:
    Path("t.csv").write_text("mine")
    assert run("predict", onnx, photos, "--csv", "t.csv")[0] == 1
    assert Path("t.csv").read_text() == "mine"


def test_any_name_is_a_cell_and_no_name_a_formula(run: Run, onnx: Path, photos: Path) -> None:
    names = ['=HYPERLINK("x")', "@a", "two\nlines", "a\rb", 'q"u,o;te', "été", os.fsdecode(b"\xff")]
    for name in names:
        shutil.copy(photos / "0.png", name)
    code, _, _ = run("predict", onnx, *names, "--csv", "t.csv")
    assert code == 0
    found = [row["path"] for row in table()]
    assert found == ['./=HYPERLINK("x")', "./@a", "two\nlines", "a\rb", 'q"u,o;te', "été", "\\udcff"]
    assert all(Path(path).samefile(name) for path, name in zip(found[:-1], names[:-1], strict=True))
    lines = run("predict", onnx, *names, "--json-lines")[1].splitlines()
    assert [json.loads(line)["image"] for line in lines] == names


@pytest.mark.parametrize("name", ["=1", "+1", "-1", "@a", "\t1"])
def test_a_path_does_not_begin_like_a_formula(name: str) -> None:
    assert plain_path(name) == f"./{name}"


def test_below_the_threshold_a_picture_is_unknown(run: Run, onnx: Path, photos: Path) -> None:
    out = run("predict", onnx, photos, "--threshold", 1.0)[1]
    assert out.count("unknown (nearest: ") == 3
    assert run("predict", onnx, photos, "--threshold", 0)[1] == run("predict", onnx, photos)[1]


def test_top_shows_the_most_probable_labels(run: Run, onnx: Path, photos: Path) -> None:
    (line,) = run("predict", onnx, photos / "0.png", "--top", 2)[1].splitlines()
    (row,) = json.loads(run("predict", onnx, photos / "0.png", "--top", 2, "--json")[1])
    (best, high), (other, low) = row["probabilities"].items()
    assert high > low
    assert line.endswith(f"  {best}  {high:.1%}, {other} {low:.1%}")


def test_any_name_takes_one_line(run: Run, onnx: Path, photos: Path) -> None:
    (photos / "0.png").rename(photos / "0\n\t.png")
    (photos / "bad\n.png").touch()
    _, out, err = run("predict", onnx, photos)
    assert out.startswith("photos/0\\n\\t.png  ")
    assert "\n  photos/bad\\n.png is empty" in err


def test_a_list_in_json_is_printed_item_by_item(run: Run, onnx: Path, photos: Path) -> None:
    (photos / "bad.png").touch()
    out = run("predict", onnx, photos, "--json")[1]
    found = json.loads(out)
    assert [Path(one["image"]).name for one in found] == ["0.png", "1.png", "2.png", "bad.png"]
    assert out == json.dumps(found, indent=2) + "\n"


def test_a_picture_without_permission_is_told_like_any_other(
    run: Run, onnx: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("1.png") and real(path, mode))
    code, out, _ = run("predict", onnx, photos / "0.png", photos / "1.png")
    assert (code, len(out.splitlines())) == (0, 2)  # the other calls do allow it


def test_strict_makes_a_bad_picture_a_failure(run: Run, onnx: Path, photos: Path) -> None:
    for i in range(8):
        (photos / f"bad{i}.png").touch()
    code, out, err = run("predict", onnx, photos)
    assert (code, len(out.splitlines())) == (0, 3)
    assert "8 pictures of 11 could not be read:\n" in err
    assert err.endswith("and 3 more\n")
    assert run("predict", onnx, photos, "--strict")[0] == 1


@pytest.mark.parametrize("names", [["photos/bad0.png"], ["photos/bad0.png", "photos/bad1.png"]])
def test_if_nothing_can_be_read_that_is_a_failure(names: list[str], run: Run, onnx: Path, photos: Path) -> None:
    for name in names:
        Path(name).touch()
    code, out, err = run("predict", onnx, *names)
    assert (code, out) == (1, "")
    assert "photos/bad0.png is empty (0 bytes)" in err


@pytest.mark.parametrize("option", ["--copy-to", "--move-to"])
def test_pictures_are_sorted_by_label(option: str, run: Run, onnx: Path, photos: Path) -> None:
    before = everything(photos)
    out = json.loads(run("predict", onnx, photos, "--recursive", "--json")[1])
    labels = {row["image"]: row["label"] for row in out}
    code, _, err = run("predict", onnx, photos, photos / "0.png", "--recursive", option, "photos/sorted")
    assert code == 0
    assert f"{'copied' if option == '--copy-to' else 'moved'} 6 pictures into photos/sorted" in err
    sorted_ = everything(photos / "sorted")
    assert sorted(data for name, data in sorted_.items() if name.endswith(".png")) == sorted(before.values())
    for name, data in before.items():
        folder = photos / "sorted" / labels[f"photos/{name}"]
        assert data in [file.read_bytes() for file in folder.iterdir()]
    assert (everything(photos) == {f"sorted/{name}": data for name, data in sorted_.items()}) == (option == "--move-to")
    assert any(name.endswith(" (2).png") for name in sorted_) == (len(set(labels.values())) < 6)


def test_undo_puts_pictures_back(run: Run, onnx: Path, photos: Path) -> None:
    before = everything(photos)
    assert run("predict", onnx, photos, "--recursive", "--move-to", photos)[0] == 0
    assert everything(photos).keys() != before.keys()
    (file,) = photos.glob("undo-*.jsonl")
    code, _, err = run("predict", "--undo", file)
    assert (code, err) == (0, "6 pictures put back\n")
    assert everything(photos) == before


def test_sorting_again_moves_nothing_that_is_in_its_place(run: Run, onnx: Path, photos: Path) -> None:
    assert run("predict", onnx, photos, "--recursive", "--move-to", photos)[0] == 0
    before = everything(photos)
    assert run("predict", onnx, photos, "--recursive", "--move-to", photos)[0] == 0
    assert everything(photos) == before


def test_unknown_pictures_have_a_folder_of_their_own(run: Run, onnx: Path, photos: Path) -> None:
    assert run("predict", onnx, photos, "--threshold", 1, "--move-to", "sorted")[0] == 0
    assert sorted(path.name for path in Path("sorted/unknown").iterdir()) == ["0.png", "1.png", "2.png"]


def test_what_cannot_be_moved_is_told_and_a_failure(run: Run, onnx: Path, photos: Path) -> None:
    Path("elsewhere.png").write_bytes((photos / "0.png").read_bytes())  # 0.png itself moves, perhaps before it is read
    (photos / "link.png").symlink_to("../elsewhere.png")
    code, _, err = run("predict", onnx, photos, "--move-to", "sorted", "--csv", "t.csv")
    assert code == 1
    assert "1 picture of 4 stayed where they are:\n  photos/link.png is a link" in err
    rows = table()
    assert [row["error"] != "" for row in rows] == [False, False, False, True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json", "--json-lines"], "--json and --json-lines both print"),
        (["--csv", "-", "--json"], "--json and --csv - both print"),
        (["--copy-to", "a", "--move-to", "b"], "--copy-to and --move-to contradict each other"),
        (["--explain", "a", "--move-to", "b"], "--explain is for a few pictures that are looked at, without --move-to"),
        (["--undo", "a"], "--undo FILE puts pictures back and does nothing else"),
    ],
)
def test_options_that_contradict_each_other_are_one_sentence(
    words: list[str], message: str, run: Run, onnx: Path, photos: Path
) -> None:
    before = everything(Path())
    code, out, err = run("predict", onnx, photos, *words)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert everything(Path()) == before


@pytest.mark.parametrize("words", [[], ["m.onnx"]])
def test_without_model_or_pictures_the_usage_is_shown(words: list[str], run: Run) -> None:
    code, _, err = run("predict", *words)
    assert code == 2
    assert f"'{'IMAGE...' if words else 'MODEL'}'" in err


def many(folder: Path, n: int) -> Path:
    folder.mkdir()
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)).save(data, "PNG")
    for i in range(n):
        (folder / f"{i}.png").write_bytes(data.getvalue())
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_pictures(onnx: Path, tmp_path: Path) -> None:
    program = (
        "import atexit, resource, sys; from fewshot_cli.main import app\n"
        "atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))\n"
        "app(sys.argv[1:])"
    )

    def peak(n: int) -> int:
        words = ["predict", str(onnx), str(many(tmp_path / str(n), n)), "--csv", str(tmp_path / f"{n}.csv")]
        done = subprocess.run(
            [sys.executable, "-c", program, *words], capture_output=True, text=True, env=ENVIRONMENT, check=True
        )
        return int(done.stdout)

    assert peak(2500) - peak(100) < 8_000  # kB; 2,400 pictures of 40 x 40 pixels as float32 would take 15,000 more


def killed_while_moving(onnx: Path, photos: Path, number: signal.Signals) -> tuple[int, str, Path]:
    """The exit code, messages and undo file of a command that got a signal after a few moves."""
    words = [str(onnx), str(photos), "--move-to", "sorted", "--csv", "t.csv", "--json-lines"]
    with subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as work:
        assert work.stdout is not None
        assert work.stderr is not None
        for _ in range(20):
            work.stdout.readline()
        work.send_signal(number)
        err = work.communicate()[1]
    (file,) = Path("sorted").glob("undo-*.jsonl")
    return work.returncode, err, file


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_after_an_interruption_every_picture_is_in_one_place_and_undo_puts_it_back(
    number: signal.Signals, run: Run, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = many(Path("photos"), 4000)
    code, err, file = killed_while_moving(onnx, photos, number)
    moved, left = len(list(Path("sorted").rglob("*.png"))), len(list(photos.iterdir()))
    assert moved >= 20
    assert moved + left == 4000
    assert not Path("t.csv").exists()
    if number == signal.SIGINT:
        assert code == 130
        assert f"moved {moved:,} pictures into sorted; to put them back: fewshot predict --undo {file}\n" in err
        assert "stopped after " in err
        assert not list(tmp_path.glob(".fewshot-draft*"))
    assert run("predict", "--undo", file)[0] == 0
    assert len(list(photos.iterdir())) == 4000
    assert not file.exists()
