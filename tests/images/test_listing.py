from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

import pytest

from fewshot_sdk.errors import ImageError
from fewshot_sdk.images.listing import Listing, list_pictures


def listed(*names: object, given: bytes = b"", recursive: bool = False, leave_out: Path | None = None) -> Listing:
    return list_pictures([str(name) for name in names], lambda: given, recursive=recursive, leave_out=leave_out)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.jpg", ".hidden.jpg", "Thumbs.db", "undo-20260101-120000.jsonl", "in/c.jpg", "in/.x/d.jpg"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return Path("photos")


def test_a_folder_means_the_files_in_it_but_hidden_ones_and_litter(photos: Path) -> None:
    assert listed(photos) == Listing(paths=("photos/a.jpg", "photos/b.jpg"), named=False)


def test_recursive_goes_to_any_depth(photos: Path) -> None:
    assert listed(photos, recursive=True).paths == ("photos/a.jpg", "photos/b.jpg", "photos/in/c.jpg")


def test_folders_are_as_deep_as_the_disk_lets_them_be(photos: Path) -> None:
    file = photos.joinpath(*["d"] * 200, "a.jpg")
    file.parent.mkdir(parents=True)
    file.touch()
    before, depth = sys.getrecursionlimit(), len(inspect.stack())
    try:
        sys.setrecursionlimit(depth + 100)
        assert listed(photos / "d", recursive=True).paths == (str(file),)
        with pytest.raises(ImageError, match="its folders are too deep for a pattern"):
            listed(f"{photos}/d/**/*.jpg")
    finally:
        sys.setrecursionlimit(before)


def test_a_link_to_a_folder_is_not_followed(photos: Path) -> None:
    (photos / "again").symlink_to(photos.absolute())
    assert len(listed(photos, recursive=True).paths) == 3


def test_the_folder_that_is_sorted_into_is_left_out_unless_it_is_named_itself(photos: Path) -> None:
    assert listed(photos, recursive=True, leave_out=photos / "in").paths == ("photos/a.jpg", "photos/b.jpg")
    assert len(listed(photos, recursive=True, leave_out=photos).paths) == 3
    assert listed("photos/**/*.jpg", leave_out=photos / "in").paths == ("photos/a.jpg", "photos/b.jpg")


def test_a_quoted_pattern_is_expanded(photos: Path) -> None:
    assert listed("photos/*.jpg").paths == ("photos/a.jpg", "photos/b.jpg")
    assert listed("photos/**/*.jpg").paths == ("photos/a.jpg", "photos/b.jpg", "photos/in/c.jpg")
    assert listed("phot*").paths == ("photos/a.jpg", "photos/b.jpg")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos: Path) -> None:
    (photos / "a[1]*.jpg").touch()
    assert listed("photos/a[1]*.jpg") == Listing(paths=("photos/a[1]*.jpg",), named=True)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (b"a.jpg\nb c.jpg\n\n", ("a.jpg", "b c.jpg")),
        (b"a.jpg\r\nb.jpg\r\n", ("a.jpg", "b.jpg")),
        (b"two\nlines.jpg\0b.jpg\0", ("two\nlines.jpg", "b.jpg")),
        (b"\xef\xbb\xbfa.jpg\n", ("a.jpg",)),
        (b"\xff.jpg", (os.fsdecode(b"\xff.jpg"),)),
    ],
)
def test_a_dash_means_the_names_of_a_stream(given: bytes, names: tuple[str, ...]) -> None:
    assert listed("-", given=given) == Listing(paths=names, named=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos/no.jpg", "photos/no.jpg: there is no such file"),
        ("photos/*.gif", "no picture has such a name"),
        ("empty", "empty: expected pictures in this folder, found none$"),
        ("outer", "found none; --recursive looks into its folders, too"),
        ("-", "standard input: expected names of pictures"),
    ],
)
def test_what_names_no_picture_is_refused(name: str, message: str, photos: Path) -> None:
    Path("empty").mkdir()
    Path("outer/inner").mkdir(parents=True)
    with pytest.raises(ImageError, match=message):
        listed(name)
