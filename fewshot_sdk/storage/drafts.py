"""Drafts: a hidden folder next to the target, which holds what is being written until it is complete.

A process that dies leaves its draft behind; the next process that writes into the same folder removes it.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".fewshot-draft-"
_HERE, _NO_REPLACE, _EXCHANGE = -100, 1, 2  # AT_FDCWD, RENAME_NOREPLACE and RENAME_EXCHANGE of Linux


def is_draft(path: Path) -> bool:
    """Whether this is a draft, of a live process or a dead one."""
    return path.name.startswith(_PREFIX)


@contextmanager
def draft_beside(target: Path) -> Iterator[Path]:
    """A temporary folder next to `target`, removed at the end; the files moved out of it are then durable.

    Drafts left there by dead processes of this machine are removed first. Raises OSError if the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft_in(target.parent) as draft:
        yield draft
        sync_folder(target.parent)


@contextmanager
def draft_in(folder: Path) -> Iterator[Path]:
    """The same inside a folder, for what need not outlast a power cut."""
    for left in folder.glob(f"{_PREFIX}{_machine()}-*"):
        _remove_if_free(left)
    draft, lock = _locked_folder(folder)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def scratch() -> Iterator[Path]:
    """The same inside the system's temporary folder, for files that other programs are to read meanwhile."""
    with draft_in(Path(tempfile.gettempdir())) as folder:
        yield folder


def open_as_usual(draft: Path) -> None:
    """Give a draft, which is closed to others, the permissions of any new folder there: what the umask leaves.

    Raises OSError if the disk refuses.
    """
    usual = draft / ".usual"
    usual.mkdir()  # the umask itself can only be read by changing it, for all threads
    permissions = stat.S_IMODE(usual.stat().st_mode)
    usual.rmdir()
    draft.chmod(permissions)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in a single step; False, with nothing changed, if the system cannot do that."""
    return _renameat2(one, other, _EXCHANGE) == 0


def rename_new(source: Path, target: Path) -> None:
    """Rename a file to a name that nothing has yet, on the same disk.

    A single step where the system has one. Elsewhere the file has both names for a moment, or the new name is first
    that of an empty file; in no case is another file overwritten.
    Raises FileExistsError if something has the name, OSError if the disk refuses.
    """
    if os.name == "nt":
        source.rename(target)  # which does not overwrite there
        return
    failed = _renameat2(source, target, _NO_REPLACE)
    if failed == 0:
        return
    if failed not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(failed, os.strerror(failed), str(source), None, str(target))
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        target.open("xb").close()  # a disk without hard links
        source.rename(target)
        return
    source.unlink()


def _renameat2(one: Path, other: Path, how: int) -> int:
    """The error number of Linux's call, or 0; ENOSYS where it is missing."""
    if sys.platform != "linux":
        return errno.ENOSYS
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # the C library has no renameat2
        return errno.ENOSYS
    done = rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), how) == 0
    return 0 if done else ctypes.get_errno()


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
