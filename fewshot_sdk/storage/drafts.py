"""Drafts: what is being written lies in a hidden folder beside its place until it is whole.

A process that dies leaves its draft behind; the next one that writes into the same folder removes it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".fewshot-draft-"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def draft_beside(target: Path) -> Iterator[Path]:
    """A folder next to `target` to fill and take things from, removed on the way out; what was done is then durable.

    Drafts there of processes of this machine that are dead are removed first. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f"{_PREFIX}{_machine()}-*"):
        _remove_if_free(left)
    draft, lock = _locked_folder(target.parent)
    try:
        yield draft
        sync_folder(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def exchange(one: Path, other: Path) -> bool:
    """Whether two paths have changed places, in a single step; False, and nothing is done, where that is refused."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file, on the disk when this returns. Raises OSError."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in a folder is on the disk when this returns. Raises OSError."""
    if os.name == "nt":  # Windows cannot open a folder, and orders renames by itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    """A new draft, and its lock; None where folders cannot be locked, and so no draft is ever removed."""
    while True:
        draft = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_machine()}-", dir=parent))
        try:
            lock = _lock(draft)
        except (FileNotFoundError, BlockingIOError):  # being removed by another, who found it without a lock
            continue
        if lock is None or draft.is_dir():
            return draft, lock
        os.close(lock)


def _remove_if_free(draft: Path) -> None:
    try:
        lock = _lock(draft)
    except OSError:  # alive, or not ours
        return
    if lock is not None:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(lock)


if sys.platform == "win32":

    def _machine() -> str:
        return "windows"

    def _lock(folder: Path) -> int | None:  # noqa: ARG001 - there are no locks of folders
        return None

else:
    import fcntl

    def _machine() -> str:
        # on a shared disk another machine's lock of a folder is not seen here
        return hashlib.sha256(os.fsencode(os.uname().nodename)).hexdigest()[:6]

    def _lock(folder: Path) -> int | None:
        """Raises BlockingIOError if a living process has it, OSError if the folder cannot be opened."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError:  # no locks on this disk
            os.close(handle)
            return None
        return handle
