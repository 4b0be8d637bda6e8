"""A cache that another user could have written is not used, and nobody else may read this user's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data.class_images import cached
from fewshot_sdk.data.own_pictures import read_own
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.storage.caches import is_private
from tests.conftest import draw_folder


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
