"""The folder for what can be made again: decoded pictures, compiled code."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs

from fewshot_sdk.errors import SaveError


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
    if stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    if status.st_mode & 0o077:
        path.chmod(0o700)
    return True
