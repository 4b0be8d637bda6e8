"""A cache that another user could have written is not used, and nobody else may read this user's."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data import omniglot
from fewshot_sdk.data.class_images import cached
from fewshot_sdk.data.own_pictures import read_own
from fewshot_sdk.errors import SaveError
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.storage.caches import is_private, private_folder
from tests.conftest import REPOSITORY, draw_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder that anyone may read."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o755)
    return tmp_path / "cache"


def made(calls: list[int]) -> Pixels:
    """The cached class."""

    def make() -> dict[str, Pixels]:
        calls.append(1)
        return {"a": np.zeros((2, 4, 4, 1), np.uint8)}

    return cached("toy, settings", make).images


def test_what_is_cached_is_for_its_user_alone_whatever_the_umask(folder: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made([])
        read_own(draw_folder(tmp_path / "drawings"), Preprocessing(height=8, width=8, channels=1, resize="box"))
    finally:
        os.umask(before)
    entries = [path for path in folder.iterdir() if path.is_dir()]
    assert len(entries) == 2
    assert {path.stat().st_mode & 0o777 for path in entries} == {0o700}


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_what_others_could_have_written_is_made_anew(folder: Path, mode: int) -> None:
    calls: list[int] = []
    made(calls)
    (entry,) = folder.glob("toy*")
    entry.chmod(mode)
    made(calls)
    assert len(calls) == 2
    assert entry.stat().st_mode & 0o777 == 0o700


def test_what_others_can_read_is_closed_and_used(folder: Path) -> None:
    calls: list[int] = []
    made(calls)
    (entry,) = folder.glob("toy*")
    entry.chmod(0o755)
    made(calls)
    assert len(calls) == 1
    assert entry.stat().st_mode & 0o777 == 0o700


def test_a_link_is_not_followed(folder: Path) -> None:
    calls: list[int] = []
    made(calls)
    (entry,) = folder.glob("toy*")
    entry.rename(folder / "elsewhere")
    entry.symlink_to(folder / "elsewhere")
    assert not is_private(entry)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_another_user_is_made_anew(folder: Path) -> None:
    calls: list[int] = []
    made(calls)
    (entry,) = folder.glob("toy*")
    os.chown(entry, 12345, 12345)
    made(calls)
    assert len(calls) == 2
    assert entry.stat().st_uid == os.geteuid()


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_private_folder_is_made_or_closed(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert private_folder("toys") == folder / "toys"
    finally:
        os.umask(before)
    assert (folder / "toys").stat().st_mode & 0o777 == 0o700
    (folder / "toys").chmod(0o777)
    assert private_folder("toys").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_cache_of_ones_own_that_cannot_be_changed_is_used(
    folder: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    made(calls)
    (entry,) = folder.glob("toy*")
    entry.chmod(mode)
    monkeypatch.setattr(Path, "chmod", refuse)
    made(calls)
    assert len(calls) == 1
    assert private_folder(entry.name) == entry


def refuse(self: Path, _: int) -> None:
    raise OSError(errno.EROFS, "Read-only file system", str(self))


def test_a_link_is_no_private_folder(folder: Path) -> None:
    (folder / "elsewhere").mkdir(mode=0o755)
    (folder / "toys").symlink_to(folder / "elsewhere")
    with pytest.raises(SaveError, match="is a link or belongs to another user; remove it, or set FEWSHOT_CACHE"):
        private_folder("toys")
    assert (folder / "elsewhere").stat().st_mode & 0o777 == 0o755


def test_a_file_in_its_place_is_no_private_folder(folder: Path) -> None:
    (folder / "toys").write_text("")
    with pytest.raises(SaveError, match="toys: cannot be used as a cache: file exists; set FEWSHOT_CACHE"):
        private_folder("toys")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("whose", ["omniglot", "omniglot/images_background.zip"])
def test_omniglots_zips_are_not_taken_from_another_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    fetched: list[str] = []
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)

    def download(url: str, _: str, target: Path) -> None:
        fetched.append(url)
        target.write_bytes(b"")

    monkeypatch.setattr(omniglot, "_download", download)
    for _ in range(2):
        omniglot._default_root()
    assert len(fetched) == 2  # one for each zip, and none again
    os.chown(folder / whose, 12345, 12345)
    if whose == "omniglot":
        with pytest.raises(SaveError, match="belongs to another user"):
            omniglot._default_root()
    else:
        omniglot._default_root()
        assert [url.rpartition("/")[2] for url in fetched[2:]] == ["images_background.zip"]


def test_every_module_that_reads_the_cache_judges_what_it_finds() -> None:
    room = REPOSITORY / "fewshot_sdk"
    readers = {
        str(path.relative_to(room)): path.read_text()
        for path in room.rglob("*.py")
        if re.search(r"import .*\b(cache_folder|private_folder)\b", path.read_text())
    }
    assert readers.keys() == {"data/class_images.py", "data/omniglot.py", "data/own_pictures.py", "engine/compiler.py"}
    assert all("is_private(" in text or "read_cached(" in text for text in readers.values())
