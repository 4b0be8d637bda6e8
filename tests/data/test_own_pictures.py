"""Reading one's own classes: what is cached, when it is read again, and what is said of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk.data import class_images, own_pictures
from fewshot_sdk.data.own_pictures import OwnPictures, read_own
from fewshot_sdk.errors import SaveError, SupportError
from fewshot_sdk.images.preprocessing import preprocess
from fewshot_sdk.images.support import read_support
from fewshot_sdk.storage.files import read_folder
from tests.conftest import draw_folder, tiny_recipe
from tests.images.test_sources import zipped

PIXELS = tiny_recipe().preprocessing


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def table(folder: Path, part: Callable[[str], str] | None = None) -> Path:
    """A CSV of the pictures in a folder of class folders; with a column `part` if there is a function for it."""
    lines = ["path,label" + (",part" if part else "")]
    for file in sorted(folder.glob("*/*")):
        label = file.parent.name
        lines.append(f"{file.relative_to(folder.parent)},{label}" + (f",{part(label)}" if part else ""))
    target = folder.parent / "labels.csv"
    target.write_text("\n".join(lines) + "\n")
    return target


def parted(folder: Path) -> Path:
    """Classes in train/, val/ and test/."""
    draw_folder(folder / "train", ("ant", "bee", "cat"))
    draw_folder(folder / "val", ("dog", "eel"))
    draw_folder(folder / "test", ("fox", "gnu"))
    return folder


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def decoding_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_pictures, "_decode", None)


@pytest.mark.parametrize("make", [lambda f: f, table, zipped, lambda f: zipped(f, "my pictures/")])
def test_the_pixels_are_those_of_the_support_set(drawings: Path, make: Callable[[Path], Path]) -> None:
    expected = read_support(drawings, PIXELS)
    found = read_own(make(drawings), PIXELS)
    assert found.classes.names == expected.labels
    np.testing.assert_array_equal(found.classes.images, expected.images)
    assert [rows.tolist() for rows in found.classes.rows] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_each_file_is_decoded_once_into_a_memory_map(drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_own(drawings, PIXELS)
    decoding_fails(monkeypatch)
    again = read_own(drawings, PIXELS)
    assert isinstance(again.classes.images, np.memmap)
    assert not again.classes.images.flags.writeable
    assert again.hashes == first.hashes


def test_a_moved_folder_is_not_decoded_again(drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_own(drawings, PIXELS)
    decoding_fails(monkeypatch)
    read_own(drawings.rename(drawings.with_name("moved")), PIXELS)


@pytest.mark.parametrize("make", [lambda f: f, table, zipped])
def test_a_changed_picture_is_seen(drawings: Path, make: Callable[[Path], Path]) -> None:
    before = read_own(make(drawings), PIXELS)
    shutil.copy(drawings / "bee" / "1.png", drawings / "ant" / "2.png")
    after = read_own(make(drawings), PIXELS)
    np.testing.assert_array_equal(after.classes.images[2], after.classes.images[5])
    assert before.hashes["ant"] != after.hashes["ant"]
    assert before.hashes["bee"] == after.hashes["bee"]
    assert before.sha256(["ant", "bee"]) != after.sha256(["ant", "bee"])


@pytest.mark.parametrize("name", ["images.npy", "classes.json", "contents.json", "manifest.json", "findings.txt"])
def test_a_damaged_cache_is_made_anew(drawings: Path, own_cache: Path, name: str) -> None:
    (drawings / "ant" / "bad.png").write_bytes(b"no picture")  # so that every file says something
    expected = np.array(read_own(drawings, PIXELS).classes.images)
    (folder,) = own_cache.iterdir()
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    class_images._sha256_of.cache_clear()  # another process
    np.testing.assert_array_equal(read_own(drawings, PIXELS).classes.images, expected)
    assert read_folder(folder).keys() == {"images.npy", "classes.json", "contents.json", "findings.txt"}
    assert list(own_cache.iterdir()) == [folder]


def test_unreadable_files_are_left_out_and_listed_each_time(drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (drawings / "ant" / "bad.png").write_bytes(b"no picture")
    (drawings / "bee" / "0.png").write_bytes(b"")
    for _ in range(2):
        found = read_own(drawings, PIXELS)
        assert found.counts() == {"ant": 4, "bee": 3, "cat": 4}
        assert len(found.classes.images) == 11
        (told,) = found.complaints.summary({}, found.listing)
        assert told.code == "unreadable"
        assert told.message.startswith("2 of 13 files could not be read, left out: ")
        assert str(drawings / "ant" / "bad.png") in told.message
        assert told.message.endswith(f"see {found.listing}")
        assert len(found.listing.read_text().splitlines()) == 2
        decoding_fails(monkeypatch)


def test_copies_and_blank_pictures_are_told_in_one_sentence_each(drawings: Path) -> None:
    shutil.copy(drawings / "ant" / "0.png", drawings / "ant" / "same.png")
    shutil.copy(drawings / "ant" / "1.png", drawings / "bee" / "other.png")
    shutil.copy(drawings / "ant" / "2.png", drawings / "cat" / "test.png")
    from PIL import Image

    Image.new("L", (50, 50), 255).save(drawings / "cat" / "white.png")
    found = read_own(drawings, PIXELS)
    parts = {"ant": "train", "bee": "train", "cat": "test"}
    told = {finding.code: finding.message for finding in found.complaints.summary(parts, found.listing)}
    assert told.keys() == {"overlap", "contradiction", "blank", "duplicate"}
    assert "1 of 16 files are in classes of different parts: " in told["overlap"]
    assert "cat/test.png" in told["overlap"]
    assert "bee/other.png" in told["contradiction"]
    assert "cat/white.png" in told["blank"]
    assert "ant/same.png" in told["duplicate"]


def given_parts(found: OwnPictures) -> dict[str, list[str]]:
    return {part: sorted(n for n, p in found.parts.items() if p == part) for part in set(found.parts.values())}


EXPECTED = {"train": ["ant", "bee", "cat"], "val": ["dog", "eel"], "test": ["fox", "gnu"]}


@pytest.mark.parametrize("make", [lambda f: f, zipped, lambda f: zipped(f, "my data/")])
def test_folders_named_as_parts_are_parts(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert given_parts(read_own(make(parted(tmp_path / "data")), PIXELS)) == EXPECTED


def test_other_words_for_validation_and_capitals_are_understood(tmp_path: Path) -> None:
    folder = parted(tmp_path / "data")
    (folder / "val").rename(folder / "Validation")
    (folder / "train").rename(folder / "Train")
    assert given_parts(read_own(folder, PIXELS)) == EXPECTED


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_class_folders_in_parts_may_be_links(tmp_path: Path) -> None:
    folder = parted(tmp_path / "data")
    (folder / "test" / "fox").rename(tmp_path / "elsewhere")
    (folder / "test" / "fox").symlink_to(tmp_path / "elsewhere")
    assert given_parts(read_own(folder, PIXELS)) == EXPECTED


def test_a_table_may_have_a_column_of_parts(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "data", tuple(name for names in EXPECTED.values() for name in names))
    where = {name: part for part, names in EXPECTED.items() for name in names}
    assert given_parts(read_own(table(folder, where.__getitem__), PIXELS)) == EXPECTED
    with pytest.raises(SupportError, match=r"row 2: expected the part train, val or test, found 'all'"):
        read_own(table(folder, lambda _: "all"), PIXELS)


def test_classes_named_like_parts_are_classes_if_pictures_are_right_in_them(tmp_path: Path) -> None:
    found = read_own(draw_folder(tmp_path / "data", ("test", "train")), PIXELS)
    assert found.classes.names == ("test", "train")
    assert set(found.parts.values()) == {""}


def test_a_class_in_two_parts_is_refused_by_name(tmp_path: Path, own_cache: Path) -> None:
    folder = parted(tmp_path / "data")
    decomposed = unicodedata.normalize("NFD", "café")
    draw_folder(folder / "train", ("café",))
    draw_folder(folder / "test", (decomposed,))
    with pytest.raises(SupportError, match=r"café is in more than one part \(test and train\); a class belongs to one"):
        read_own(folder, PIXELS)
    assert not own_cache.exists()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: emptied(f / "test" / "fox"), "no picture in the class folder"),
        (lambda f: emptied(f / "val"), "no picture in the folder val; put its classes"),
        (lambda f: (f / "train" / "notes.txt").write_text("x"), r"notes\.txt is in no class folder"),
        (lambda f: (f / "notes.txt").write_text("x"), r"notes\.txt is in no class folder"),
    ],
)
def test_parts_are_checked_like_any_folder(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    folder = parted(tmp_path / "data")
    spoil(folder)
    with pytest.raises(SupportError, match=says):
        read_own(folder, PIXELS)


def test_bad_sources_are_refused_in_a_sentence_and_nothing_is_written(tmp_path: Path, own_cache: Path) -> None:
    one = draw_folder(tmp_path / "one", ("ant",))
    with pytest.raises(SupportError, match=r"holds only the class 'ant'.*at least two classes"):
        read_own(one, PIXELS)
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(SupportError, match=r"the file is neither a zip nor a \.csv"):
        read_own(tmp_path / "bad.zip", PIXELS)
    with zipfile.ZipFile(tmp_path / "up.zip", "w") as archive:
        archive.writestr("train/../../ant/1.png", b"x")
    with pytest.raises(SupportError, match="leads out of the zip"):
        read_own(tmp_path / "up.zip", PIXELS)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for label in ("ant", "bee"):
            archive.writestr(f"train/{label}/1.png", bytes(70 * 2**20))
    with pytest.raises(SupportError, match="looks like a zip bomb"):
        read_own(tmp_path / "bomb.zip", PIXELS)
    for label in ("ant", "bee"):
        (tmp_path / "none" / label).mkdir(parents=True)
        (tmp_path / "none" / label / "1.png").write_bytes(b"no picture")
    with pytest.raises(SupportError, match=r"1\.png is not a picture this program reads"):
        read_own(tmp_path / "none", PIXELS)
    assert not own_cache.exists() or not list(own_cache.iterdir())


def test_a_cache_that_cannot_be_written_is_reported(
    drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SaveError, match="FEWSHOT_CACHE names another cache folder"):
        read_own(drawings, PIXELS)


def test_what_interrupts_reading_leaves_nothing_behind(drawings: Path, own_cache: Path) -> None:
    def interrupted(files: object, total: int) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_own(drawings, PIXELS, interrupted)  # type: ignore[arg-type]
    assert list(own_cache.iterdir()) == []


KILLED = """
import os, sys
from fewshot_sdk.data.own_pictures import read_own
from tests.conftest import tiny_recipe

def watch(files, total):
    for i, file in enumerate(files):
        if i == 7:
            os.kill(os.getpid(), 9)
        yield file

read_own(sys.argv[1], tiny_recipe().preprocessing, watch)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_process_killed_while_reading_leaves_no_half_written_cache(drawings: Path, own_cache: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(drawings)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert all(left.name.startswith(".fewshot-draft-") for left in own_cache.iterdir())
    found = read_own(drawings, PIXELS)
    assert len(found.classes.images) == 12
    assert [left.name.startswith("own-") for left in own_cache.iterdir()] == [True]  # the next writer cleans up


def test_pictures_of_all_kinds_are_decoded_as_everywhere(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "data", ("ant", "bee"), shots=40)
    found = read_own(folder, PIXELS)
    for i, file in enumerate(sorted((folder / "ant").iterdir(), key=lambda path: path.parts)):
        np.testing.assert_array_equal(found.classes.images[i], preprocess(file, PIXELS))
