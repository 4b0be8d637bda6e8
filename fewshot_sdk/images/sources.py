"""Where labelled pictures come from: class folders, a flat folder, a CSV, or a zip of class folders."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias
from zipfile import ZipFile

from fewshot_sdk.errors import ImageError, SupportError, listed
from fewshot_sdk.images.decoding import MAX_BYTES
from fewshot_sdk.images.preprocessing import read_picture_file
from fewshot_sdk.images.tables import Row, read_table
from fewshot_sdk.images.zips import open_zip, read_member

LabelFrom: TypeAlias = Literal["folder", "name", "nothing"]

MAX_FILES = 100_000
_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}  # left by desktops; dot files are passed over, and what phones
# and photo programs put beside a picture
_LAYOUT = "expected a folder for each class with its pictures inside, such as cat/1.jpg and dog/1.jpg"
_SIDECAR = re.compile(r"\.(aae|xmp|thm)$|\.(jpe?g|png|webp|heic|tiff?|gif|bmp)(\.[\w-]+)?\.json$", re.IGNORECASE)
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NUMBERED = re.compile(r"(?P<label>.*?)[\s_-]*(?:\d+|\(\d+\))?$")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file that should be a picture.

    label: its class; name: how it is told to a person; read: gives its bytes, or raises ImageError.
    """

    label: str
    name: str
    read: Callable[[], bytes]


@contextmanager
def open_source(source: str | Path, label_from: LabelFrom = "folder", least: int = 2) -> Iterator[list[SourceFile]]:
    """The files of a folder, CSV or zip, by label in alphabetical order; none is read yet.

    A folder: a folder for each class, whose pictures may lie at any depth, so that in cat/siam/1.jpg the class
    is cat. A zip: the same, and one folder around all of it is passed over; nothing is extracted. With
    `label_from="name"` the pictures lie side by side, and a class is what stands before the number
    in a file's name: cat_001.jpg. A CSV: a header with the columns `path` and `label`, UTF-8, paths
    relative to the CSV. `label_from="nothing"`: pictures at any depth, all with the label "".
    Hidden files and what desktops leave behind are passed over; links to folders are followed only where they
    stand for a class.
    Raises SupportError if the source is missing or of another layout, holds fewer than `least` classes,
    a class without a picture, or pictures without a class.
    """
    source = Path(source)
    if source.is_dir():
        found = _in_folder(source)
        yield _grouped(_labelled(source, found, _class_folders(source), label_from, least), source, label_from, least)
    elif not source.exists():
        wanted = "expected a folder of pictures" if label_from == "nothing" else _LAYOUT
        raise SupportError(f"{source}: there is no such folder; {wanted}")
    elif source.suffix.lower() == ".csv":
        yield _grouped(_in_csv(source, label_from), source, label_from, least)
    else:
        with open_zip(source, f"it is a file that is no zip and no .csv; {_LAYOUT}") as archive:
            found = _in_zip(archive, source)
            least_deep = 1 if label_from == "name" else 2
            wrapped = len({p[0] for p, _ in found}) == 1 and all(len(p) > least_deep for p, _ in found)
            if wrapped and label_from != "nothing":
                found = [(p[1:], file) for p, file in found]
            yield _grouped(_labelled(source, found, set(), label_from, least), source, label_from, least)


_Found: TypeAlias = list[tuple[tuple[str, ...], SourceFile]]  # the parts of a path below the source


def _in_folder(folder: Path) -> _Found:
    def refuse(error: OSError) -> None:
        raise SupportError(f"{error.filename}: {(error.strerror or 'unreadable').lower()}; allow reading or remove it")

    found = []
    tops = [entry for entry in _entries(folder) if entry.is_dir()]
    for top in (folder, *tops):
        for parent, folders, names in os.walk(top, onerror=refuse):
            folders[:] = [] if top == folder else [name for name in folders if not _litter(name)]
            paths = (Path(parent, name) for name in names if not _litter(name))
            found += [
                (path.relative_to(folder).parts, SourceFile(label="", name=str(path), read=partial(_read, path)))
                for path in paths
            ]
            if len(found) > MAX_FILES:
                raise SupportError(f"{folder}: it holds more than {MAX_FILES:,} files; name a smaller folder")
    return sorted(found, key=lambda pair: pair[0])


def _in_zip(archive: ZipFile, source: Path) -> _Found:
    found = []
    for member in archive.infolist():
        parts = tuple(part for part in member.filename.replace("\\", "/").split("/") if part not in ("", "."))
        is_file = parts and not member.filename.endswith(("/", "\\"))
        if is_file and not any(_litter(part) for part in parts):
            read = partial(read_member, archive, member, MAX_BYTES)
            found.append((parts, SourceFile(label="", name="/".join((str(source), *parts)), read=read)))
    return sorted(found, key=lambda pair: pair[0])


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not _litter(entry.name))
    except OSError as error:
        raise SupportError(f"{folder}: {(error.strerror or 'unreadable').lower()}; allow reading it") from None


def _class_folders(folder: Path) -> set[str]:
    return {entry.name for entry in _entries(folder) if entry.is_dir()}


def _labelled(source: Path, found: _Found, folders: set[str], label_from: LabelFrom, least: int) -> list[SourceFile]:
    """The files with their labels. `folders`: class folders that should hold at least one."""
    if label_from == "nothing":
        return [file for _, file in found]
    loose = [parts[0] for parts, _ in found if len(parts) == 1]
    if label_from == "name":
        if nested := sorted({parts[0] for parts, _ in found if len(parts) > 1} | folders):
            raise SupportError(
                f"{source}: it holds the folder{'s' if len(nested) > 1 else ''} {listed(nested)}, but labels from "
                "names (--label-from name) need all pictures side by side; leave that option out"
            )
        labels = [_NUMBERED.fullmatch(Path(name).stem) for name in loose]
        if bare := [name for name, match in zip(loose, labels, strict=True) if not match or not match["label"]]:
            raise SupportError(f"{source}: no label before the number in {listed(bare)}; expected such as cat_001.jpg")
        return [replace(file, label=match["label"]) for (_, file), match in zip(found, labels, strict=True) if match]
    if loose and len(loose) == len(found) and not folders:
        raise SupportError(
            f"{source}: {listed(loose)} {'lie' if len(loose) > 1 else 'lies'} in no class folder; {_LAYOUT}, or "
            "names such as cat_001.jpg and --label-from name"
        )
    if loose:
        raise SupportError(
            f"{source}: {listed(loose)} lie{'s' if len(loose) == 1 else ''} in no class folder; {_LAYOUT}"
        )
    used = {parts[0] for parts, _ in found}
    if len(folders) >= least and (empty := sorted(folders - used)):
        raise SupportError(
            f"{source}: no picture in the class folder{'s' if len(empty) > 1 else ''} {listed(empty)}; "
            "put at least one in each, or remove it"
        )
    if not found and folders:
        raise SupportError(f"{source}: it holds only the class {min(folders)!r}; {_LAYOUT}, at least two classes")
    return [replace(file, label=parts[0]) for parts, file in found]


def _in_csv(path: Path, label_from: LabelFrom) -> list[SourceFile]:
    if label_from == "name":
        raise SupportError(f"{path}: a CSV says the labels itself; leave --label-from out")
    return [
        SourceFile(
            label=row.label, name=f"{row.path} ({path.name}, row {row.line})", read=partial(_read_row, row, path.name)
        )
        for row in read_table(path)
    ]


def _grouped(files: list[SourceFile], source: Path, label_from: LabelFrom, least: int) -> list[SourceFile]:
    files = [replace(file, label=unicodedata.normalize("NFC", file.label)) for file in files]  # as é by two codes
    labels = sorted({file.label for file in files})
    if odd := [label for label in labels if _NO_TEXT.search(label)]:
        raise SupportError(
            f"{source}: the class name {odd[0]!r} holds what is no text (control characters, or bytes that are not "
            "UTF-8); rename it"
        )
    if label_from == "nothing":
        if not files:
            raise SupportError(f"{source}: it is empty; expected pictures")
        return files
    if len(labels) < least:
        found = "it is empty" if not labels else f"it holds only the class {labels[0]!r}"
        layout = _LAYOUT if label_from == "folder" else "expected names such as cat_001.jpg and dog_001.jpg"
        if source.suffix.lower() == ".csv":
            layout = "expected a row for each picture, with its path and its label"
        raise SupportError(f"{source}: {found}; {layout}, at least two classes")
    return sorted(files, key=lambda file: file.label)  # a stable sort: within a class as they were


def _read(path: Path) -> bytes:
    if path.is_symlink() and not path.exists():
        raise ImageError(f"{path} is a broken link; remove it")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ImageError(f"{path} is a pipe or a device, not a file; remove it")  # reading it might never end
    return read_picture_file(path)


def _read_row(row: Row, table: str) -> bytes:
    try:
        return _read(row.path)
    except ImageError as error:
        raise ImageError(f"{table}, row {row.line}: {error}") from None


def _litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER or _SIDECAR.search(name) is not None
