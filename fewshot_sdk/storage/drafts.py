"""Drafts: a hidden folder next to the target, which holds what is being written until it is complete.

A process that dies leaves its draft behind; the next process that writes into the same folder removes it.
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
    """A temporary folder next to `target`, removed at the end; the files moved out of it are then durable.

    Drafts left there by dead processes of this machine are removed first. Raises OSError if the disk refuses.
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
    """Exchange two paths in a single step; False, with nothing changed, if the system cannot do that."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # the C library has no renameat2
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file; it is on the disk when this returns. Raises OSError."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk: what was created, renamed or removed in it is durable. Raises OSError."""
    if os.name == "nt":  # Windows cannot open a folder, and orders renames itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    """A new draft and its lock; None where folders cannot be locked, so that no draft is ever removed."""
    while True:
        draft = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_machine()}-", dir=parent))
        try:
            lock = _lock(draft)
        except (FileNotFoundError, BlockingIOError):  # another process found it unlocked and is removing it
            continue
        if lock is None or draft.is_dir():
            return draft, lock
        os.close(lock)


def _remove_if_free(draft: Path) -> None:
    try:
        lock = _lock(draft)
    except OSError:  # its process is alive, or it is another user's
        return
    if lock is not None:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(lock)


if sys.platform == "win32":

    def _machine() -> str:
        return "windows"

    def _lock(folder: Path) -> int | None:  # noqa: ARG001 - Windows cannot lock folders
        return None

else:
    import fcntl

    def _machine() -> str:
        # a lock of another machine is invisible here, even on a shared disk
        return hashlib.sha256(os.fsencode(os.uname().nodename)).hexdigest()[:6]

    def _lock(folder: Path) -> int | None:
        """The lock's handle. Raises BlockingIOError if a live process has it, OSError if the folder cannot be read."""
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
