"""Folders inside of folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walk(top: str | Path, refuse: Callable[[OSError], None]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each folder below `top`, itself first, with its folders and files, all in alphabetical order.

    Like `os.walk`, but at any depth: until Python 3.12 that ends in a RecursionError. What is taken out of the list of
    folders is not looked into, and links to folders are not followed. refuse: called with the error of a folder that
    cannot be read.
    """
    waiting = [os.fspath(top)]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(parent) as entries:
                found = sorted((entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries)
        except OSError as error:
            refuse(error)
            continue
        folders = [name for name, is_folder, _ in found if is_folder]
        yield parent, folders, [name for name, is_folder, _ in found if not is_folder]
        links = {name for name, _, is_link in found if is_link}
        waiting += [os.path.join(parent, name) for name in reversed(folders) if name not in links]  # noqa: PTH118


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def is_flat(folder: Path) -> bool:
    """Whether a folder holds files and no folders, but for hidden ones."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return bool(entries) and not any(entry.is_dir() for entry in entries)
