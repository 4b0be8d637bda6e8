"""Replacing the files of a folder: at every moment either all old files or all new files can be read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.drafts import exchange, sync_folder
from fewshot_sdk.storage.files import MANIFEST, MAX_TEXT_BYTES, NEXT, beside, fill, folders_of, listed, read_bounded


def replace_folder(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Replace the files in a folder's manifest by `contents`; other files in the folder stay.

    However this process is killed, `read_folder` then returns all of the old files or all of the new ones: a new
    folder is exchanged with the old one in a single step. If the system cannot do that, or the folder holds other
    files, a complete copy of the new files is made inside it, and they move from there one by one, the manifest last.
    Raises SaveError if the disk refuses.
    """
    target = folder.resolve()
    with beside(target) as draft:
        old = _names(target)
        ours = {*old, *contents, *folders_of([*old, *contents]), MANIFEST}
        others = {entry.relative_to(target).as_posix() for entry in target.rglob("*")} - ours
        fill(draft, contents)
        if not others and exchange(draft, target):
            return folder
    with beside(target / NEXT) as draft:
        fill(draft, contents)
        _move_next(target)  # left by a process that was killed
        draft.rename(target / NEXT)
        sync_folder(target)
        _move_next(target)
        for name in old - contents.keys():
            (target / name).unlink(missing_ok=True)
    return folder


def _names(folder: Path) -> set[str]:
    """The names in a folder's manifest; empty if it cannot be read."""
    try:
        return set(listed(read_bounded(folder / MANIFEST, MAX_TEXT_BYTES), folder))
    except BundleError:
        return set()


def _move_next(folder: Path) -> None:
    newer = folder / NEXT
    if names := _names(newer):
        for name in sorted(names):
            if (newer / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (newer / name).replace(folder / name)
        for inner in folders_of(names):
            sync_folder(folder / inner)
        sync_folder(folder)
        (newer / MANIFEST).replace(folder / MANIFEST)
    if newer.is_dir():
        shutil.rmtree(newer)
