from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fewshot_cli.group import app
from tests.conftest import Run, draw_folder


@pytest.fixture
def exported(run: Run, model: Path, tmp_path: Path) -> Path:
    assert run("export", model, "--output", tmp_path / "m.onnx")[0] == 0
    return tmp_path / "m.onnx"


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Other drawings of the same three classes, and of a fourth."""
    return draw_folder(tmp_path / "others", labels=("ant", "bee", "cat", "elk"), shots=5, first=20)


def test_the_result_agrees_with_what_predict_says_of_each_picture(run: Run, exported: Path, others: Path) -> None:
    code, out, _ = run("test", exported, others, "--json")
    assert code == 0
    found = json.loads(out)
    rows = json.loads(run("predict", exported, others, "--recursive", "--json")[1])
    right = sum(row["label"] == Path(row["image"]).parent.name for row in rows)
    assert found["accuracy"]["count"] == right
    assert found["accuracy"]["n"] == 15
    assert found["accuracy"]["low"] <= right / 15 <= found["accuracy"]["high"]
    assert found["rejected"]["n"] == 5
    assert [row["label"] for row in found["classes"]] == ["ant", "bee", "cat"]
    assert [row["label"] for row in found["foreign"]] == ["elk"]
    wrong = {one["name"]: (one["nearest"], one["probability"]) for one in found["wrong"]}
    assert len(wrong) == 15 - right + 5 - found["rejected"]["count"]
    for row in rows:
        if row["image"] in wrong:
            assert wrong[row["image"]] == (row["nearest"], row["probability"])


def test_the_lines_name_accuracy_classes_and_confusions(run: Run, exported: Path, others: Path) -> None:
    code, out, err = run("test", exported, others)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "of 15 pictures (95 % interval " in lines[0]
    assert lines[1].startswith("of classes that it does not know (elk): ")
    assert lines[3].split() == ["class", "right", "of", "unknown", "taken", "for"]
    assert [line.split()[0] for line in lines[4:8]] == ["ant", "bee", "cat", "elk"]
    assert lines[10].split() == ["ant", "bee", "cat", "unknown"]
    counts = [list(map(int, line.split()[1:])) for line in lines[11:15]]
    assert [sum(row) for row in counts] == [5, 5, 5, 5]


def test_the_classifiers_folder_gives_the_same_and_tells_pictures_it_learned_from(
    run: Run, model: Path, exported: Path, others: Path, drawings: Path
) -> None:
    assert run("test", model, others) == run("test", exported, others)
    shutil.copy(drawings / "ant" / "0.png", others / "ant" / "known.png")
    code, _, err = run("test", model, others)
    assert code == 0
    assert err.startswith("warning: 1 picture of 21 is among those that the classifier learned from")


def test_zips_tables_and_names_are_taken_as_by_adapt(run: Run, exported: Path, others: Path, tmp_path: Path) -> None:
    expected = json.loads(run("test", exported, others, "--json")[1])["accuracy"]
    archive = shutil.make_archive(str(tmp_path / "z"), "zip", others)
    files = sorted(others.rglob("*.png"))
    table = tmp_path / "t.csv"
    table.write_text("path,label\n" + "".join(f"{file},{file.parent.name}\n" for file in files))
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in files:
        shutil.copy(file, flat / f"{file.parent.name}_{file.name}")
    for words in ([archive], [table], [flat, "--label-from", "name"]):
        assert json.loads(run("test", exported, *words, "--json")[1])["accuracy"] == expected


def test_the_page_holds_the_wrong_pictures_and_is_never_overwritten(
    run: Run, exported: Path, others: Path, tmp_path: Path
) -> None:
    archive = shutil.make_archive(str(tmp_path / "z"), "zip", others)
    code, out, err = run("test", exported, archive, "--json", "--html", tmp_path / "t.html")
    assert (code, err) == (0, f"wrote {tmp_path / 't.html'}\n")
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert page.count("<img") == len(json.loads(out)["wrong"]) > 0
    assert run("test", exported, archive, "--html", tmp_path / "t.html")[0] == 1
    assert (tmp_path / "t.html").read_text(encoding="utf-8") == page


def test_bad_files_are_named_and_with_strict_a_failure(run: Run, exported: Path, others: Path) -> None:
    (others / "ant" / "bad.png").touch()
    code, out, err = run("test", exported, others)
    assert code == 0
    assert "of 15 pictures" in out
    assert err.startswith(f"1 picture of 21 could not be read:\n  {others / 'ant' / 'bad.png'} is empty")
    assert run("test", exported, others, "--strict")[0] == 1
    (unread,) = json.loads(run("test", exported, others, "--json")[1])["unreadable"]
    assert unread["image"] == str(others / "ant" / "bad.png")


def test_only_bad_files_are_a_failure(run: Run, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "bad" / "ant").mkdir(parents=True)
    (tmp_path / "bad" / "ant" / "bad.png").touch()
    code, out, err = run("test", exported, tmp_path / "bad")
    assert (code, out) == (1, "")
    assert "could not be read" in err


def test_pictures_of_other_classes_alone_have_no_accuracy(run: Run, exported: Path, others: Path) -> None:
    for label in ("ant", "bee", "cat"):
        shutil.rmtree(others / label)
    code, out, _ = run("test", exported, others)
    assert code == 0
    assert out.startswith("no picture is of a class that the model knows (ant, bee, cat)\n")


def test_many_classes_have_their_commonest_confusions_instead_of_a_matrix(
    run: Run, exported: Path, tmp_path: Path
) -> None:
    many = draw_folder(tmp_path / "many", labels=tuple(f"c{i}" for i in range(13)), shots=1)
    lines = run("test", exported, many)[1].splitlines()
    assert lines[-11] == "most often confused"
    assert all(" taken for " in line for line in lines[-10:])


def test_a_model_of_numbers_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.csv").write_text("x,y\n0,0\n1,1\n2,0\n")
    assert run("adapt", "--init", "sine", "--support", tmp_path / "p.csv", "--output", tmp_path / "c")[0] == 0
    code, _, err = run("test", tmp_path / "c", tmp_path)
    assert code == 1
    assert "predicts numbers, and `fewshot test` is for pictures" in err


def test_its_name_is_test() -> None:
    assert "test" in {command.name for command in app.registered_commands}
