"""The support set: a folder of class folders, read into labelled pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config import Preprocessing
from fewshot_sdk.errors import ImageError, SupportError
from fewshot_sdk.images import Pixels, preprocess

_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}  # left by desktops; dot files are passed over too
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class SupportSet:
    """A few labelled images.

    labels: the class names, sorted; images: uint8 (n, height, width, channels), grouped by class;
    targets: int64 (n,), indices into `labels`.
    """

    labels: tuple[str, ...]
    images: Pixels
    targets: NDArray[np.int64]


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Label -> image files, from `folder/<label>/<image>`, sorted by name.

    Raises SupportError if the folder is missing or empty, holds fewer than two classes, a class
    without an image, or pictures that are in no class folder.
    """
    layout = "expected a folder for each class with its pictures inside, such as cat/1.jpg and dog/1.jpg"
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "there is no such folder"
        raise SupportError(f"{folder}: {found}; {layout}")
    entries = _visible(folder)
    loose = [entry.name for entry in entries if not entry.is_dir()]
    classes = {entry.name: _visible(entry) for entry in entries if entry.is_dir()}
    if loose:
        raise SupportError(
            f"{folder}: {_listed(loose)} lie{'s' if len(loose) == 1 else ''} in no class folder; {layout}"
        )
    if len(classes) < 2:
        found = "it is empty" if not classes else f"it holds only the class {next(iter(classes))!r}"
        raise SupportError(f"{folder}: {found}; {layout}, at least two classes")
    if empty := [label for label, files in classes.items() if not files]:
        raise SupportError(
            f"{folder}: no picture in the class folder{'s' if len(empty) > 1 else ''} {_listed(empty)}; "
            "put at least one in each, or remove it"
        )
    return classes


def read_support(folder: str | Path, settings: Preprocessing) -> SupportSet:
    """The support set in a folder of class folders, preprocessed.

    Raises SupportError as `class_folders` does, and, naming every one of them, for files that are
    not readable pictures.
    """
    classes = class_folders(Path(folder))
    images, targets, bad = [], [], []
    for target, files in enumerate(classes.values()):
        for file in files:
            try:
                images.append(preprocess(file, settings))
                targets.append(target)
            except ImageError as error:
                bad.append(str(error))
    if bad:
        more = f" (and {len(bad) - _SHOWN} more such files)" if len(bad) > _SHOWN else ""
        raise SupportError("\n".join(bad[:_SHOWN]) + more)
    return SupportSet(labels=tuple(classes), images=np.stack(images), targets=np.asarray(targets, np.int64))


def _visible(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.lower() not in _LITTER
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
