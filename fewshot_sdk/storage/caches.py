"""The folder for what can be made again: decoded pictures, compiled code."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder for decoded data: `FEWSHOT_CACHE`, or the system's cache folder."""
    return Path(os.environ.get("FEWSHOT_CACHE") or platformdirs.user_cache_dir("fewshot-sdk"))


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
