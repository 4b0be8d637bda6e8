"""The pictures that the arguments of a command name: files, folders, patterns, and names read from a stream."""

from __future__ import annotations

import codecs
import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_sdk.errors import ImageError
from fewshot_sdk.images.folders import walk
from fewshot_sdk.images.sources import is_litter

STDIN = "-"
MAX_NAMES = 64 * 2**20  # bytes


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Paths of files that should be pictures, in order; a million of them take about 100 MB.

    named: whether each was named by itself; otherwise some come from a folder, a pattern or a stream.
    """

    paths: tuple[str, ...]
    named: bool


def list_pictures(
    names: Sequence[str | Path], stream: Callable[[], bytes], *, recursive: bool = False, leave_out: Path | None = None
) -> Listing:
    """The pictures that `names` mean; none is read yet.

    A folder means the files directly in it, or with `recursive` at any depth, each folder's in alphabetical order;
    hidden files and files left behind by desktops are ignored, and links to folders not followed. A name with *, ? or [
    that is not that of a file is a pattern, in which ** stands for any folders. `-` means the names that `stream`
    returns, one a line, or separated by NUL characters if it contains any.
    leave_out: a folder inside of a named one, which is not looked into.
    Raises ImageError for a name of nothing, a folder without pictures or one that cannot be read, and a pattern or a
    stream without names.
    """
    left_out = None if leave_out is None else os.path.realpath(leave_out)
    paths: list[str] = []
    named = True
    for name in map(str, names):
        if name == STDIN:
            paths += _streamed(stream())
        elif Path(name).is_dir():
            paths += _in_folder(name, recursive, left_out)
        elif os.path.lexists(name):
            paths.append(name)
            continue
        elif glob.has_magic(name):
            paths += _matching(name, recursive, left_out)
        else:
            raise ImageError(f"{name}: there is no such file; check its name")
        named = False
    return Listing(paths=tuple(paths), named=named)


def _streamed(data: bytes) -> list[str]:
    if len(data) > MAX_NAMES:
        raise ImageError(f"standard input: more than {MAX_NAMES // 2**20} MiB of names; give them in parts")
    data = data.removeprefix(codecs.BOM_UTF8)  # from PowerShell
    lines = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    names = [os.fsdecode(line) for line in lines if line]
    if not names:
        raise ImageError("standard input: expected names of pictures, one a line, found none")
    return names


def _in_folder(folder: str, recursive: bool, left_out: str | None) -> list[str]:
    def refuse(error: OSError) -> None:
        raise ImageError(f"{error.filename}: {(error.strerror or 'unreadable').lower()}; make it readable") from None

    found: list[str] = []
    folders: list[str] = []
    for parent, folders, names in walk(folder, refuse):
        folders[:] = [name for name in folders if not is_litter(name)]
        found += [str(Path(parent, name)) for name in names if not is_litter(name)]
        if not recursive:
            break
        folders[:] = [name for name in folders if os.path.realpath(Path(parent, name)) != left_out]
    if found:
        return found
    more = "; --recursive looks into its folders, too" if folders and not recursive else ""
    raise ImageError(f"{folder}: expected pictures in this folder, found none{more}")


def _matching(pattern: str, recursive: bool, left_out: str | None) -> list[str]:
    try:
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - it takes any path, not only below a folder
    except RecursionError:
        raise ImageError(f"{pattern}: its folders are too deep for a pattern; name a folder with --recursive") from None
    inside = [match for match in matches if not is_litter(Path(match).name) and not _below(match, left_out)]
    files = [match for match in inside if not Path(match).is_dir()]
    if not inside:
        raise ImageError(f"{pattern}: no picture has such a name; check the pattern")
    return files or [path for match in inside for path in _in_folder(match, recursive, left_out)]  # */: folders only


def _below(path: str, folder: str | None) -> bool:
    return folder is not None and Path(folder) in Path(os.path.realpath(path)).parents
