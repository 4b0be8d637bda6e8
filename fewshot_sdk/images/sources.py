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

from fewshot_sdk.config.labels import wrong_label
from fewshot_sdk.errors import ImageError, SupportError, listed
from fewshot_sdk.images.decoding import MAX_BYTES
from fewshot_sdk.images.folders import walk
from fewshot_sdk.images.preprocessing import read_picture_file
from fewshot_sdk.images.tables import PART_NAMES, Row, read_table
from fewshot_sdk.images.zips import is_guessed, name_of, open_zip, read_member

LabelFrom: TypeAlias = Literal["folder", "name", "nothing"]

MAX_FILES = 100_000
# Left behind by desktops, NAS systems and file systems; ignored like dot files and the sidecar files of phones.
_LITTER = {
    "thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "lost+found",
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp",
}  # fmt: skip
_LAYOUT = "expected a folder for each class with its pictures inside, such as cat/1.jpg and dog/1.jpg"
_SIDECAR = re.compile(r"\.(aae|xmp|thm)$|\.(jpe?g|png|webp|heic|tiff?|gif|bmp)(\.[\w-]+)?\.json$", re.IGNORECASE)
_UNDO = re.compile(r"undo-\d{8}-\d{6}(-\d+)?\.jsonl")  # of `fewshot predict --move-to`
_NUMBERED = re.compile(r"(?P<label>.*?)[\s_-]*(?:\d+|\(\d+\))?$")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file that should be a picture.

    label: its class; name: its name in messages; read: returns its bytes, or raises ImageError.
    part: `train`, `val` or `test` where the source has parts and is asked for them. mark: returns what changes when the
    file does, such as its size and time, without reading it. guessed: whether a zip does not tell how its name, which
    may hold the label, is written.
    """

    label: str
    name: str
    read: Callable[[], bytes]
    part: str = ""
    mark: Callable[[], str] = str
    guessed: bool = False


@contextmanager
def open_source(
    source: str | Path, label_from: LabelFrom = "folder", least: int = 2, *, limit: int = MAX_FILES,
    parted: bool = False,
) -> Iterator[list[SourceFile]]:  # fmt: skip
    """The files of a folder, CSV or zip, in alphabetical order of their labels; none is read yet.

    A folder holds a folder for each class, with pictures at any depth: the class of cat/siam/1.jpg is cat.
    A zip is like a folder, and may have one folder around everything; nothing is extracted. A CSV has a header
    with the columns `path` and `label`, is UTF-8, and its paths are relative to the CSV. With
    `label_from="name"` all pictures are in one folder, and the class is the part of a file's name before the number:
    cat_001.jpg. With `label_from="nothing"` pictures are at any depth, all with the label "".
    Hidden files and files left behind by desktops are ignored; links to folders are followed only for class folders.
    limit: the number of files, or of a zip's members. parted: if the class folders are in folders of the names in
    `PART_NAMES`, or a CSV has a column `part`, these are the files' parts, instead of classes or nothing.
    Raises SupportError if the source is missing or has another layout, fewer than `least` classes,
    a class without a picture, or pictures without a class.
    """
    source = Path(source)
    if source.is_dir():
        folders = _class_folders(source)
        found = _in_folder(source, limit, parted and _name_parts(folders))
        files = _parted(source, found, folders) if parted else []
        files = files or _labelled(source, found, folders, label_from, least)
        yield _grouped(files, source, label_from, least)
    elif not source.exists():
        wanted = "expected a folder of pictures" if label_from == "nothing" else _LAYOUT
        raise SupportError(f"{source}: there is no such folder; {wanted}")
    elif source.suffix.lower() == ".csv":
        yield _grouped(_in_csv(source, label_from, parted), source, label_from, least)
    else:
        with open_zip(source, f"the file is neither a zip nor a .csv; {_LAYOUT}", limit) as archive:
            found = _in_zip(archive, source)
            least_deep = 1 if label_from == "name" else 2
            wrapped = len({p[0] for p, _ in found}) == 1 and all(len(p) > least_deep for p, _ in found)
            files = _parted(source, found, set()) if parted else []
            if wrapped and label_from != "nothing" and not files:
                found = [(p[1:], file) for p, file in found]
                files = _parted(source, found, set()) if parted else []
            files = files or _labelled(source, found, set(), label_from, least)
            yield _grouped(files, source, label_from, least)


_Found: TypeAlias = list[tuple[tuple[str, ...], SourceFile]]  # the parts of a path below the source


def _in_folder(folder: Path, limit: int, parted: bool) -> _Found:
    def refuse(error: OSError) -> None:
        reason = (error.strerror or "unreadable").lower()
        raise SupportError(f"{error.filename}: {reason}; make it readable or remove it")

    found = []
    tops = [entry for entry in _entries(folder) if entry.is_dir()]
    if parted:  # their class folders may be links, too
        tops += [entry for top in tops for entry in _entries(top) if entry.is_symlink() and entry.is_dir()]
    for top in (folder, *tops):
        for parent, folders, names in walk(top, refuse):
            folders[:] = [] if top == folder else [name for name in folders if not is_litter(name)]
            paths = (Path(parent, name) for name in names if not is_litter(name))
            found += [
                (
                    path.relative_to(folder).parts,
                    SourceFile(label="", name=str(path), read=partial(_read, path), mark=partial(_mark, path)),
                )
                for path in paths
            ]
            if len(found) > limit:
                raise SupportError(f"{folder}: it holds more than {limit:,} files; name a smaller folder")
    return sorted(found, key=lambda pair: pair[0])


def _in_zip(archive: ZipFile, source: Path) -> _Found:
    found = []
    for member in archive.infolist():
        name = name_of(member)
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        is_file = parts and not name.endswith(("/", "\\"))
        if is_file and not any(is_litter(part) for part in parts):
            read = partial(read_member, archive, member, MAX_BYTES)
            mark = partial("{} {:08x}".format, member.file_size, member.CRC)
            full, guessed = "/".join((str(source), *parts)), is_guessed(member)
            found.append((parts, SourceFile(label="", name=full, read=read, mark=mark, guessed=guessed)))
    return sorted(found, key=lambda pair: pair[0])


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not is_litter(entry.name))
    except OSError as error:
        raise SupportError(f"{folder}: {(error.strerror or 'unreadable').lower()}; make it readable") from None


def _class_folders(folder: Path) -> set[str]:
    return {entry.name for entry in _entries(folder) if entry.is_dir()}


def _parted(source: Path, found: _Found, folders: set[str]) -> list[SourceFile]:
    """The files with their labels and parts, if all class folders are in folders of parts; otherwise none."""
    tops = {parts[0] for parts, _ in found} | folders
    if not _name_parts(tops) or not any(len(parts) > 2 for parts, _ in found):
        return []
    files = []
    for top in sorted(tops):
        inside = [(parts[1:], file) for parts, file in found if parts[0] == top]
        if not inside:
            raise SupportError(f"{source}: no picture in the folder {top}; put its classes there, or remove the folder")
        classes = _class_folders(source / top) if folders else set()
        labelled = _labelled(source / top, inside, classes, "folder", 1)
        files += [replace(file, part=PART_NAMES[top.lower()]) for file in labelled]
    return files


def _name_parts(tops: set[str]) -> bool:
    return all(top.lower() in PART_NAMES for top in tops)


def _labelled(source: Path, found: _Found, folders: set[str], label_from: LabelFrom, least: int) -> list[SourceFile]:
    """The files with their labels. folders: class folders, each of which must hold at least one file."""
    if label_from == "nothing":
        return [file for _, file in found]
    loose = [parts[0] for parts, _ in found if len(parts) == 1]
    if label_from == "name":
        if nested := sorted({parts[0] for parts, _ in found if len(parts) > 1} | folders):
            raise SupportError(
                f"{source}: it holds the folder{'s' if len(nested) > 1 else ''} {listed(nested)}, but labels from "
                "names (--label-from name) need all pictures in one folder; omit that option"
            )
        labels = [_NUMBERED.fullmatch(Path(name).stem) for name in loose]
        if bare := [name for name, match in zip(loose, labels, strict=True) if not match or not match["label"]]:
            raise SupportError(
                f"{source}: no label before the number in {listed(bare)}; expected names such as cat_001.jpg"
            )
        return [replace(file, label=match["label"]) for (_, file), match in zip(found, labels, strict=True) if match]
    if loose and len(loose) == len(found) and not folders:
        raise SupportError(
            f"{source}: {listed(loose)} {'are' if len(loose) > 1 else 'is'} in no class folder; {_LAYOUT}, or "
            "names such as cat_001.jpg and --label-from name"
        )
    if loose:
        raise SupportError(
            f"{source}: {listed(loose)} {'are' if len(loose) > 1 else 'is'} in no class folder; {_LAYOUT}"
        )
    used = {parts[0] for parts, _ in found}
    if len(folders) >= least and (empty := sorted(folders - used)):
        raise SupportError(
            f"{source}: no picture in the class folder{'s' if len(empty) > 1 else ''} {listed(empty)}; "
            "put at least one in each, or remove the folder"
        )
    if not found and folders:
        raise SupportError(f"{source}: it holds only the class {min(folders)!r}; {_LAYOUT}, at least two classes")
    return [replace(file, label=parts[0]) for parts, file in found]


def _in_csv(path: Path, label_from: LabelFrom, parted: bool) -> list[SourceFile]:
    if label_from == "name":
        raise SupportError(f"{path}: a CSV has its own labels; omit --label-from")
    return [
        SourceFile(
            label=row.label,
            name=f"{row.path} ({path.name}, row {row.line})",
            read=partial(_read_row, row, path.name),
            part=row.part,
            mark=partial(_mark, row.path),
        )
        for row in read_table(path, parted)
    ]


def _grouped(files: list[SourceFile], source: Path, label_from: LabelFrom, least: int) -> list[SourceFile]:
    files = [
        replace(file, label=unicodedata.normalize("NFC", _text(file.label))) for file in files
    ]  # é may be two codes
    labels = sorted({file.label for file in files})
    if label_from == "nothing":
        if not files:
            raise SupportError(f"{source}: it is empty; expected pictures")
        return files
    for label in labels:
        if wrong := wrong_label(label):
            raise SupportError(f"{source}: class {label[:60]!r}: expected {wrong}; rename it")
    if len(labels) < least:
        found = "it is empty" if not labels else f"it holds only the class {labels[0]!r}"
        layout = _LAYOUT if label_from == "folder" else "expected names such as cat_001.jpg and dog_001.jpg"
        if source.suffix.lower() == ".csv":
            layout = "expected a row for each picture, with its path and its label"
        raise SupportError(f"{source}: {found}; {layout}" + (", at least two classes" if least > 1 else ""))
    return sorted(files, key=lambda file: file.label)  # a stable sort keeps the order within a class


def _text(name: str) -> str:
    """A name whose bytes are UTF-8, as text, also where the locale has another encoding."""
    try:
        return os.fsencode(name).decode()
    except UnicodeError:
        return name


def _read(path: Path) -> bytes:
    try:
        there = path.exists()
        if not there and path.is_symlink():
            raise ImageError(f"{path} is a broken link; remove it")
        if there and not path.is_file() and not path.is_dir():
            raise ImageError(f"{path} is a pipe or a device, not a file; remove it")  # reading it might never end
    except OSError as error:  # the name is too long, or lies in a folder that one may not enter
        raise ImageError(f"{path!s:.200}: {(error.strerror or str(error)).lower()}; expected a picture") from None
    return read_picture_file(path)


def _read_row(row: Row, table: str) -> bytes:
    try:
        return _read(row.path)
    except ImageError as error:
        raise ImageError(f"{table}, row {row.line}: {error}") from None


def _mark(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "unreadable"
    return f"{status.st_size} {status.st_mtime_ns}"


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or was left behind by a desktop, a NAS, a phone or `fewshot`."""
    known = name.startswith(".") or name.lower() in _LITTER or _SIDECAR.search(name) is not None
    return known or _UNDO.fullmatch(name) is not None
