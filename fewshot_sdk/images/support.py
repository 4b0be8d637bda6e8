"""The support set: labelled pictures from a folder, CSV or zip, read once, as labelled pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ImageError, SupportError, first_few
from fewshot_sdk.images.decoding import decode
from fewshot_sdk.images.preprocessing import Pixels, resize
from fewshot_sdk.images.sources import LabelFrom, SourceFile, open_source
from fewshot_sdk.images.thumbnails import thumbnail

Watch = Callable[[Iterator[SourceFile], int], Iterable[SourceFile]]


@dataclass(frozen=True, kw_only=True, eq=False)
class SupportSet:
    """A few labelled images.

    labels: the class names, sorted; images: uint8 (n, height, width, channels), grouped by class;
    targets: int64 (n,), indices into `labels`.
    """

    labels: tuple[str, ...]
    images: Pixels
    targets: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadPicture:
    """A picture that was read: the network's pixels, and what the doctor needs.

    size: width and height, upright; sha256: of the file; pixels: the result of `preprocess`;
    thumb: uint8 (32, 32, 3); guessed: see `SourceFile`.
    """

    name: str
    label: str
    size: tuple[int, int]
    sha256: str
    pixels: Pixels
    thumb: Pixels
    guessed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """The contents of a source: the pictures, ordered by label, and the unreadable files: name -> what is wrong."""

    pictures: tuple[ReadPicture, ...]
    unreadable: dict[str, str]

    def support(self) -> SupportSet:
        """The pictures as a support set. Raises SupportError, naming them, if any file was unreadable."""
        if self.unreadable:
            raise SupportError(first_few(list(self.unreadable.values()), "files"))
        labels = tuple(sorted({picture.label for picture in self.pictures}))
        index = {label: i for i, label in enumerate(labels)}
        return SupportSet(
            labels=labels,
            images=np.stack([picture.pixels for picture in self.pictures]),
            targets=np.asarray([index[picture.label] for picture in self.pictures], np.int64),
        )


def read_pictures(
    source: str | Path, settings: Preprocessing, label_from: LabelFrom = "folder", least: int = 2,
    watch: Watch = lambda files, total: files,  # noqa: ARG005
) -> Reading:  # fmt: skip
    """Every picture of a source; each file is read and decoded once, one after another.

    Sources and labels are those of `sources.open_source`. Raises SupportError as it does.
    watch: wraps the iterator over the files; also given their number, to show progress.
    """
    return read_for_all(source, [settings], label_from, least, watch)[settings]


def read_for_all(
    source: str | Path, wanted: Sequence[Preprocessing], label_from: LabelFrom = "folder", least: int = 2,
    watch: Watch = lambda files, total: files,  # noqa: ARG005
) -> dict[Preprocessing, Reading]:  # fmt: skip
    """`read_pictures` for several settings; each file is read and decoded once."""
    pictures: dict[Preprocessing, list[ReadPicture]] = {settings: [] for settings in wanted}
    unreadable: dict[str, str] = {}
    with open_source(source, label_from, least) as files:
        for file in watch(iter(files), len(files)):
            try:
                data = file.read()
                image = decode(data, file.name)
            except ImageError as error:
                unreadable[file.name] = str(error)
                continue
            sha256, thumb = hashlib.sha256(data).hexdigest(), thumbnail(image)
            for settings, read in pictures.items():
                read.append(
                    ReadPicture(
                        name=file.name,
                        label=file.label,
                        size=image.size,
                        sha256=sha256,
                        pixels=resize(image, settings),
                        thumb=thumb,
                        guessed=file.guessed,
                    )
                )
    return {settings: Reading(pictures=tuple(read), unreadable=unreadable) for settings, read in pictures.items()}


def read_support(
    source: str | Path, settings: Preprocessing, label_from: LabelFrom = "folder", least: int = 2
) -> SupportSet:
    """The support set in a folder of class folders, a flat folder, a CSV or a zip, preprocessed.

    least: how many classes it must have.
    Raises SupportError as `sources.open_source` does, and, naming them, for files that are not readable
    pictures.
    """
    return read_pictures(source, settings, label_from, least).support()
