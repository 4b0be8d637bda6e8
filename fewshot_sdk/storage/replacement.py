"""Folders whose files are replaced: at every moment the old ones or the new ones can be read, whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.drafts import exchange, sync_folder
from fewshot_sdk.storage.files import MANIFEST, MAX_TEXT_BYTES, NEXT, beside, fill, listed, read_bounded


def replace_folder(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Put `contents` in the place of the files that a folder's manifest names; what else lies in it stays.

    Whatever kills this process, `read_folder` then gives all of the old files or all of the new ones: two folders
    change places in one step. Where that is refused, and where other things lie in the folder, the new files move
    into it one by one, the manifest last, out of a whole copy inside.
    Raises SaveError if the disk refuses.
    """
    place = folder.resolve()
    with beside(place) as draft:
        old = _names(place)
        others = {entry.name for entry in place.iterdir()} - old - contents.keys() - {MANIFEST}
        fill(draft, contents)
        if not others and exchange(draft, place):
            return folder
    with beside(place / NEXT) as draft:
        fill(draft, contents)
        _move_next(place)  # what a process that was killed left
        draft.rename(place / NEXT)
        sync_folder(place)
        _move_next(place)
        for name in old - contents.keys():
            (place / name).unlink(missing_ok=True)
    return folder


def _names(folder: Path) -> set[str]:
    """The names in a folder's manifest; none if it cannot be read."""
    try:
        return set(listed(read_bounded(folder / MANIFEST, MAX_TEXT_BYTES), folder))
    except BundleError:
        return set()


def _move_next(folder: Path) -> None:
    newer = folder / NEXT
    if names := _names(newer):
        for name in sorted(names):
            if (newer / name).exists():
                (newer / name).replace(folder / name)
        sync_folder(folder)
        (newer / MANIFEST).replace(folder / MANIFEST)
    if newer.is_dir():
        shutil.rmtree(newer)
