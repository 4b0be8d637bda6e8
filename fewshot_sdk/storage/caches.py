"""The folder for what can be made again: decoded pictures, compiled code."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import platformdirs

from fewshot_sdk.errors import SaveError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """The folder for decoded data: `FEWSHOT_CACHE`, or the system's cache folder. Raises SaveError if there is none."""
    try:
        return Path(os.environ.get("FEWSHOT_CACHE") or platformdirs.user_cache_dir("fewshot-sdk"))
    except RuntimeError:  # without HOME, for a user whom the system does not know
        raise SaveError("this user has no home folder for a cache; set FEWSHOT_CACHE to a folder for it") from None


def is_private(path: Path) -> bool:
    """Whether a file or folder of a cache may be used: it belongs to this user, and nobody else may write or read it.

    One of this user's that others can read is closed to them; one that they could have written is not used.
    """
    status = path.lstat()
    if os.name == "nt":
        return not stat.S_ISLNK(status.st_mode)
    if stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
        return False
    if status.st_mode & 0o077:
        with suppress(OSError):  # of a file system that cannot be written
            path.chmod(0o700)
    return True


def private_folder(name: str) -> Path:
    """A folder of the cache that this user alone may enter; what is in it must still be judged by `is_private`.

    Raises SaveError if it cannot be made, is a link, or belongs to another user.
    """
    folder = cache_folder() / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name != "nt":
            status = folder.lstat()
            if status.st_uid == os.geteuid() and status.st_mode & _OTHERS_WRITE and not stat.S_ISLNK(status.st_mode):
                folder.chmod(0o700)
        if is_private(folder):
            return folder
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SaveError(f"{folder}: cannot be used as a cache: {reason}; set FEWSHOT_CACHE to another folder") from None
    raise SaveError(
        f"{folder} is a link or belongs to another user; remove it, or set FEWSHOT_CACHE to a folder of your own"
    )
