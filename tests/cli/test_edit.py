from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_sdk import Predictor, load_classifier
from fewshot_sdk.storage.files import read_folder, write_folder
from fewshot_sdk.storage.locks import alone_at
from tests.conftest import Run


@pytest.fixture
def file(run: Run, model: Path, tmp_path: Path) -> Path:
    assert run("export", model, "--output", tmp_path / "model.onnx")[0] == 0
    return tmp_path / "model.onnx"


def test_a_folder_is_edited_in_place(run: Run, model: Path) -> None:
    words = ("--rename", "ant=emu", "--rename", "bee=fly", "--drop", "cat", "--threshold", 0.6)
    code, out, err = run("edit", model, *words)
    assert (code, out) == (0, "")
    assert (
        f"{model}: renamed ant to emu, renamed bee to fly, dropped cat, threshold 0.6; its classes are emu, fly" in err
    )
    assert "no accuracy is stated any more" in err
    assert "without its report.html, which no longer fits" in err
    made = load_classifier(model)
    assert (made.labels, made.config.threshold) == (("emu", "fly"), 0.6)
    assert not (model / "report.html").exists()
    code, out, _ = run("verify", model)
    assert code == 0
    assert f"{model}: edited after it was adapted: renamed ant to emu, renamed bee to fly, dropped cat" in out


@pytest.mark.parametrize("name", ["Bee", "unknown", "nan", "01"])
def test_a_name_that_invites_confusion_is_told_once(name: str, run: Run, model: Path, file: Path) -> None:
    for it in (model, file):
        code, _, err = run("edit", it, "--rename", f"ant={name}")
        assert (code, err.count("warning: ")) == (0, 1)
        assert f"{name!r}" in err
        assert "warning" not in run("edit", it, "--rename", "cat=emu")[2]


def test_with_an_output_the_model_stays_as_it_is(run: Run, model: Path, file: Path, tmp_path: Path) -> None:
    for before, after in ((model, tmp_path / "new"), (file, tmp_path / "new.onnx")):
        held = read_folder(before) if before.is_dir() else before.read_bytes()
        assert run("edit", before, "--drop", "ant", "--output", after)[0] == 0
        assert (read_folder(before) if before.is_dir() else before.read_bytes()) == held
        code, _, err = run("edit", before, "--drop", "ant", "--output", after)
        assert code == 1
        assert "already" in err
    assert Predictor(tmp_path / "new.onnx").labels == load_classifier(tmp_path / "new").labels == ("bee", "cat")


def test_a_file_is_edited_in_place_and_tells_it(run: Run, file: Path) -> None:
    code, out, _ = run("edit", file, "--rename", "ant=bee", "--rename", "bee=ant", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["labels"] == ["bee", "ant", "cat"]
    assert [edit["renamed"] for edit in told["edits"]] == [{"ant": "bee", "bee": "ant"}]
    assert Predictor(file).labels == ("bee", "ant", "cat")
    code, out, _ = run("info", file)
    assert out.startswith("renamed ant to bee, renamed bee to ant (before: sha256 ")
    assert json.loads(run("info", file, "--json")[1])["edits"] == told["edits"]


def test_a_bundle_stays_whole(run: Run, model: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "it & co"
    assert run("export", model, "--bundle", bundle)[0] == 0
    before = read_folder(bundle)
    assert run("edit", bundle, "--rename", "ant=emu")[0] == 0
    after = read_folder(bundle)  # every file matches the manifest
    assert after.keys() == before.keys()
    assert Predictor(bundle / "model.onnx").labels == ("emu", "bee", "cat")
    assert b'"labels": ["emu", "bee", "cat"]' in after["index.html"]
    assert run("edit", bundle, "--rename", "emu=ant")[0] == 0
    again = read_folder(bundle)
    assert {name for name, data in before.items() if data != again[name]} == {"index.html", "model.onnx"}  # the hash


def test_a_file_inside_a_bundle_is_not_edited_alone(run: Run, model: Path, tmp_path: Path) -> None:
    assert run("export", model, "--bundle", tmp_path / "bundle")[0] == 0
    code, _, err = run("edit", tmp_path / "bundle" / "model.onnx", "--threshold", 0.5)
    assert code == 1
    assert "is part of the folder" in err
    assert "edit the folder, or name a new --output" in err
    read_folder(tmp_path / "bundle")


def test_a_signature_that_no_longer_fits_is_removed(run: Run, model: Path, tmp_path: Path) -> None:
    signed = write_folder(tmp_path / "signed", {**read_folder(model), "model.sig": b"{}"})
    code, _, err = run("edit", signed, "--threshold", 0.5)
    assert code == 0
    assert "without its model.sig, which no longer fits; sign it again with `fewshot push --sign`" in err
    assert "model.sig" not in read_folder(signed)
    assert "report.html" in read_folder(signed)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rename", "ants=emu"], "no class 'ants'; the classes are ant, bee, cat; did you mean 'ant'?"),
        (["--drop", "ant", "--drop", "bee"], "1 of 3 classes would remain"),
        (["--rename", "ant=bee"], "there would be 2 classes bee"),
        (["--rename", "ant"], "--rename: expected OLD=NEW, found 'ant'"),
        (["--rename", "ant=ant"], "nothing to change; give --rename OLD=NEW, --drop LABEL or --threshold P"),
        ([], "nothing to change; give --rename OLD=NEW, --drop LABEL or --threshold P"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    run: Run, model: Path, file: Path, words: list[str], says: str
) -> None:
    for it in (model, file):
        held = read_folder(it) if it.is_dir() else it.read_bytes()
        code, out, err = run("edit", it, *words)
        assert (code, out) == (1, "")
        assert says in err.strip().splitlines()[-1]
        assert (read_folder(it) if it.is_dir() else it.read_bytes()) == held


def test_other_models_are_refused(run: Run, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_bytes(b"text")
    assert run("export-learner", saved, "--output", tmp_path / "learner.onnx")[0] == 0
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("init", "support.safetensors is missing; expected a folder made by `fewshot adapt`"),
        ("text.onnx", "text.onnx is not an ONNX file"),
        ("learner.onnx", "is a learner, which knows no classes yet"),
        ("nowhere", "no such file"),
        ("empty", "manifest.json"),
    ):
        code, _, err = run("edit", tmp_path / name, "--threshold", 0.5)
        assert code == 1
        assert says in err, name


def test_a_class_that_is_dropped_twice_is_told_once(run: Run, file: Path) -> None:
    edits = json.loads(run("edit", file, "--drop", "ant", "--drop", "ant", "--json")[1])["edits"]
    assert [edit["dropped"] for edit in edits] == [["ant"]]


def test_two_edits_at_once_are_not_lost(run: Run, model: Path, file: Path) -> None:
    for it in (model, file):
        with alone_at(it, it.resolve()):
            code, _, err = run("edit", it, "--threshold", 0.5)
        assert code == 1
        assert f"another process is making {it} at this moment" in err
        assert run("edit", it, "--threshold", 0.5)[0] == 0
        assert not it.with_name(f"{it.name}.lock").exists()
