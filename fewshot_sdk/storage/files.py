"""Folders and files that are written completely or not at all, and checked when read back."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from fewshot_sdk.errors import BundleError, FewshotError, OutputExists, SaveError
from fewshot_sdk.storage.drafts import draft_beside, is_draft, open_as_usual, sync_folder, write_durably

MANIFEST = "manifest.json"
RECIPE = "recipe.toml"  # what a training run was made by, in its folder and its checkpoint
NEXT = ".fewshot-next"  # inside a folder that is replaced file by file: the new files that have not moved yet
SIGNATURE = "model.sig"  # of all files but the manifest, which lists it like the others
MAX_FILE_BYTES = 4 * 2**30
MAX_TEXT_BYTES = 2**20
_DIGEST = re.compile("[0-9a-f]{64}")
_LONGEST_NAME, _LONGEST_PATH = 255, 1000  # bytes of a file's name, characters of its path inside a folder


class Bundle(Protocol):
    """What `save` can write: anything that consists of a few named files."""

    def files(self) -> dict[str, bytes]:
        """File name -> bytes."""
        ...


def save(bundle: Bundle, folder: str | Path) -> Path:
    """Write an initialization or a classifier as a new folder, completely or not at all.

    Raises OutputExists if `folder` exists and is not empty, SaveError if the disk refuses.
    """
    return write_folder(Path(folder), bundle.files())


def sha256(data: bytes) -> str:
    """The SHA-256 of the bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def check_free(path: Path, option: str = "--output") -> None:
    """Raises OutputExists unless `path` is absent or an empty folder, SaveError if nothing can be written there.

    option: by which it was named.
    """
    try:
        inside = _held(path) if path.is_dir() else None
    except OSError as error:
        raise _unusable(path, error, option) from None
    if inside:
        raise OutputExists(f"{path} already holds something; name a new {option} or empty that folder first")
    if inside is None:
        check_free_file(path, option)
    elif not os.access(path, os.W_OK):
        raise SaveError(f"cannot write {path}: it is not writable; name another {option}")


def _held(folder: Path) -> list[str]:
    """The names in a folder, but those that a file system or a dead process has left there. Raises OSError."""
    return [entry.name for entry in folder.iterdir() if entry.name != "lost+found" and not is_draft(entry)]


def check_free_file(path: Path, option: str = "--output") -> None:
    """Raises OutputExists if `path` exists, SaveError if nothing can be written there. option: as for `check_free`."""
    try:
        there = path.exists() or path.is_symlink()
        above = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as error:
        raise _unusable(path, error, option) from None
    if there:
        raise OutputExists(f"{path} exists already; name a new {option} or remove it first")
    if not above.is_dir():
        raise SaveError(f"cannot write {path}: {above} is a file, not a folder; name another {option}")
    if not os.access(above, os.W_OK):
        raise SaveError(f"cannot write {path}: {above} is not writable; name another {option}")


def _unusable(path: Path, error: OSError, option: str) -> SaveError:
    reason = (error.strerror or str(error)).lower()
    return SaveError(f"cannot write {str(path)[:200]}: {reason}; name another {option}")


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Write `contents` and a manifest of their hashes as a new folder, durably and atomically.

    Raises OutputExists if `folder` exists and is not empty, SaveError if the disk refuses.
    """
    with _new_folder(folder) as draft:
        fill(draft, contents)
    return folder


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write files by name, as they come, as a new folder without a manifest, durably and atomically.

    Raises as `write_folder` does.
    """
    with _new_folder(folder) as draft:
        for name, data in files:
            write_durably(draft / name, data)
        sync_folder(draft)
        open_as_usual(draft)
    return folder


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A draft that becomes `folder`, in a single step unless that is a mount point or the folder one is in.

    Such a folder cannot be replaced: the files move into it one by one, the manifest last. A link to an empty folder
    stays one. Raises as `write_folder` does.
    """
    check_free(folder)
    target = folder.resolve() if folder.is_symlink() else folder
    stays = folder.is_dir() and (target.is_mount() or target.resolve() == Path.cwd() or any(target.iterdir()))
    with beside(target / MANIFEST if stays else target) as draft:
        yield draft
        if stays:
            _move_into(target, draft)
            return
        if target.is_dir():
            target.rmdir()
        draft.rename(target)


def _move_into(folder: Path, draft: Path) -> None:
    names = sorted((path.name for path in draft.iterdir()), key=lambda name: (name == MANIFEST, name))
    try:
        for name in names:
            (draft / name).rename(folder / name)
    except OSError:
        for name in names:
            if not (draft / name).exists():
                (folder / name).unlink(missing_ok=True)
        raise


def write_file(path: Path, data: bytes) -> Path:
    """Write one new file, durably and atomically.

    Raises OutputExists if it exists, SaveError if the disk refuses.
    """
    check_free_file(path)
    with beside(path) as draft:
        write_durably(draft / path.name, data)
        (draft / path.name).rename(path)
    return path


def overwrite_file(path: Path, data: bytes) -> Path:
    """Write a file, durably, over an older one; at every moment one of the two is there, complete.

    Raises SaveError if the disk refuses.
    """
    with beside(path) as draft:
        write_durably(draft / path.name, data)
        (draft / path.name).replace(path)
    return path


def read_folder(folder: Path, only: Collection[str] | None = None) -> dict[str, bytes]:
    """Every file in the folder's manifest, each read once and checked against its hash. only: the names of some.

    If the folder's replacement was interrupted (see `replace_folder`): all of the old files or all of the new ones.
    Raises BundleError, naming the file, for a missing, oversized or changed one.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; expected one written by `fewshot`")
    try:
        return _read(folder, folder, only)
    except BundleError:
        if not (folder / NEXT / MANIFEST).is_file():
            raise
        return _read(folder, folder / NEXT, only)


def _read(folder: Path, newer: Path, only: Collection[str] | None) -> dict[str, bytes]:
    """The files in the manifest of `newer`, each from there or, if it has moved already, from `folder`."""

    def read(name: str) -> bytes:
        return read_bounded((newer if (newer / name).exists() else folder) / name, MAX_FILE_BYTES)

    return checked(read_bounded(newer / MANIFEST, MAX_TEXT_BYTES), read, folder, only)


def checked(
    manifest: bytes, read: Callable[[str], bytes], where: Path, only: Collection[str] | None = None
) -> dict[str, bytes]:
    """The files in a manifest, by name, each read by `read` and checked against the manifest's size and hash.

    only: the names of those to read; None: all. Raises BundleError, naming the file inside `where`, if one differs.
    """
    contents = {}
    for name, (expected, size) in listed(manifest, where).items():
        if only is not None and name not in only:
            continue
        contents[name] = read(name)
        found = sha256(contents[name])
        if found != expected or len(contents[name]) != size:
            raise BundleError(
                f"{where / name} was changed or damaged: expected sha256 {expected[:16]}..., "
                f"found {found[:16]}...; fetch or make the folder again"
            )
    return contents


def listed(manifest: bytes, where: Path) -> dict[str, tuple[str, int]]:
    """The entries of a manifest: plain file name, in folders by "/" -> SHA-256 and size in bytes.

    Raises BundleError if it is not a manifest, or names a file outside its folder.
    """
    try:
        files = json.loads(manifest)["files"]
        names = {str(name): (str(entry["sha256"]), int(entry["size"])) for name, entry in files.items()}
        if not all(_DIGEST.fullmatch(digest) for digest, _ in names.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise BundleError(f"{where / MANIFEST} is not a manifest; fetch or make the folder again") from None
    for name in names:
        parts = name.split("/")
        plain = name.isprintable() and not {*"\\:"} & {*name} and not {"", ".", ".."} & {*parts}
        if not plain or len(name) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
            raise BundleError(f"{where / MANIFEST}: {name[:80]!r} is not a plain file name; do not trust this folder")
    return names


def read_bounded(
    path: Path,
    limit: int,
    error: type[FewshotError] = BundleError,
    advice: str = "expected a file written by `fewshot`",
) -> bytes:
    """A file's bytes, at most `limit`.

    Raises `error`, with `advice` at its end, if the file is missing, unreadable, a pipe or larger.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe might never end
            raise error(f"{path} is a pipe or a device, not a file; {advice}")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as refusal:
        reason = refusal.strerror or type(refusal).__name__
        raise error(f"{path}: {reason.lower()}; {advice}") from None
    if len(data) > limit:
        raise error(f"{path} is larger than {limit / 2**20:.3g} MiB; {advice}")
    return data


def manifest_of(contents: Mapping[str, bytes]) -> bytes:
    """The manifest of these files: name -> SHA-256 and size, as JSON."""
    files = {name: {"sha256": sha256(data), "size": len(data)} for name, data in sorted(contents.items())}
    return (json.dumps({"files": files}, indent=2) + "\n").encode()


def fill(draft: Path, contents: Mapping[str, bytes]) -> None:
    """Write `contents` and their manifest into an empty folder, durably. Raises OSError if the disk refuses."""
    for name, data in {**contents, MANIFEST: manifest_of(contents)}.items():
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        write_durably(draft / name, data)
    for folder in folders_of(contents):
        sync_folder(draft / folder)
    sync_folder(draft)
    open_as_usual(draft)


def folders_of(names: Iterable[str]) -> list[str]:
    """The folders inside a folder in which files of these names lie, the outer ones first."""
    found = {parent.as_posix() for name in names for parent in PurePosixPath(name).parents}
    return sorted(found - {"."})


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A draft next to `target` (see `draft_beside`). Raises SaveError if the disk refuses anything meanwhile."""
    try:
        with draft_beside(target) as draft:
            yield draft
    except OSError as error:
        reason = error.strerror or type(error).__name__
        full = "free some space or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise SaveError(
            f"could not write {target}: {reason.lower()}; nothing was left behind, so {full}name another --output"
        ) from error
