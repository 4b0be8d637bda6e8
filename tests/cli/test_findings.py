"""What `fewshot doctor` and `fewshot adapt` say of pictures, and that each is read once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk.images import decoding, support
from fewshot_sdk.images.doctor import LOOK
from fewshot_sdk.images.support import read_pictures
from tests.conftest import Run


def test_the_command_prints_findings_and_its_exit_code_tells_errors(run: Run, photos: Path) -> None:
    code, out, err = run("doctor", photos, "--json")
    assert (code, json.loads(out)) == (0, [])
    assert err == "15 pictures of 3 classes read: no errors, no warnings\n"
    (photos / "cup" / "copy.jpg").write_bytes((photos / "cup" / "0.jpg").read_bytes())
    code, out, _ = run("doctor", photos)
    assert code == 0
    assert out.startswith("warning: ")
    code, out, err = run("doctor", photos, "--query", photos, "--json")
    assert code == 1
    assert {finding["code"] for finding in json.loads(out)} == {"duplicate", "overlap"}
    assert set(json.loads(out)[0]) == {"severity", "code", "message"}
    assert err == "16 pictures of 3 classes read: 16 errors, 1 warning\n"


def test_adapting_tells_warnings_and_goes_on(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    (drawings / "ant" / "copy.png").write_bytes((drawings / "ant" / "0.png").read_bytes())
    code, _, err = run("adapt", "--support", drawings, "--init", saved, "--output", tmp_path / "model")
    assert code == 0
    assert "warning: " in err
    assert "are the same file" in err


def test_adapting_tells_every_error_and_stops(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    for i in range(7):
        (drawings / "ant" / f"bad{i}.png").write_bytes(b"")
    (drawings / "bee" / "copy.png").write_bytes((drawings / "ant" / "0.png").read_bytes())
    code, _, err = run("adapt", "--support", drawings, "--init", saved, "--output", tmp_path / "model")
    assert code == 1
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error"] * 8
    assert not (tmp_path / "model").exists()


def test_findings_of_one_kind_are_told_five_times_and_counted(run: Run, photos: Path) -> None:
    for i in range(5):
        for label in ("cup", "mug"):
            (photos / label / f"copy{i}.jpg").write_bytes((photos / label / f"{i}.jpg").read_bytes())
    _, out, _ = run("doctor", str(photos))
    assert out.count("are the same file; keep one") == 5
    assert "warning: and 5 more like these (duplicate); --json lists them all" in out


def test_bad_files_are_left_out_if_asked(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    (drawings / "notes").mkdir()
    (drawings / "notes" / "read me.txt").write_text("hello")
    command = ("adapt", "--support", str(drawings), "--init", str(saved), "--steps", "2", "--output")
    code, _, err = run(*command, str(tmp_path / "stops"))
    assert code == 1
    assert "read me.txt is not a picture" in err
    code, _, err = run(*command, str(tmp_path / "model"), "--skip-bad")
    assert code == 0
    assert "warning: " in err
    assert "read me.txt is not a picture" in err
    assert "notes" not in json.loads((tmp_path / "model" / "config.json").read_text())["labels"]


def test_leaving_bad_files_out_needs_two_classes_that_remain(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    for folder in sorted(drawings.iterdir())[1:]:
        for picture in folder.iterdir():
            picture.write_bytes(b"no")
    command = ("adapt", "--support", str(drawings), "--init", str(saved), "--output", str(tmp_path / "m"), "--skip-bad")
    code, _, err = run(*command)
    assert code == 1
    assert "too few classes have a picture that can be read" in err


def test_adapting_reads_and_decodes_every_picture_once(
    run: Run, saved: Path, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counting(data: bytes, name: str) -> Image.Image:
        decoded.append(name)
        return decoding.decode(data, name)

    monkeypatch.setattr(support, "decode", counting)
    words = ("adapt", "--support", drawings, "--init", saved, "--output", tmp_path / "model")
    assert run(*words)[0] == 0
    assert len(decoded) == len(set(decoded)) == 12


def test_pictures_for_several_initializations_are_decoded_once_and_seen_as_by_each_alone(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [LOOK, LOOK.replace(height=20, width=24, channels=1, mean=(0.0,), std=(1.0,))]
    alone = [read_pictures(photos, one) for one in settings]
    decoded: list[str] = []

    def counting(data: bytes, name: str) -> Image.Image:
        decoded.append(name)
        return decoding.decode(data, name)

    monkeypatch.setattr(support, "decode", counting)
    together = support.read_for_all(photos, settings)
    assert len(decoded) == len(alone[0].pictures)
    for one, reading in zip(settings, alone, strict=True):
        for expected, found in zip(reading.pictures, together[one].pictures, strict=True):
            np.testing.assert_array_equal(found.pixels, expected.pixels)
            np.testing.assert_array_equal(found.thumb, expected.thumb)


def test_adapting_takes_labels_from_names(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for file in drawings.glob("*/*.png"):
        file.rename(tmp_path / "flat" / f"{file.parent.name}_{file.name}")
    words = ("adapt", "--support", tmp_path / "flat", "--init", saved, "--output", tmp_path / "model")
    code, _, err = run(*words)
    assert code == 1
    assert "--label-from name" in err
    code, out, _ = run(*words, "--label-from", "name", "--json")
    assert (code, json.loads(out)["labels"]) == (0, ["ant", "bee", "cat"])
