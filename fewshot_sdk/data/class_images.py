"""Images by class, and the cache that holds them decoded."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.recipe import DataSource
from fewshot_sdk.errors import BundleError, DataError, FewshotError, OutputExists, SaveError
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.storage.caches import cache_folder, is_private
from fewshot_sdk.storage.files import (
    MANIFEST,
    MAX_TEXT_BYTES,
    listed,
    read_bounded,
    sha256,
    write_folder,
)
from fewshot_sdk.storage.replacement import replace_folder

IMAGES, CLASSES = "images.npy", "classes.json"
_MAX_NAMES = 64 * 2**20
DAMAGED = (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError, BundleError)  # of `read_cached`


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassImages:
    """Classes of images of one size.

    images: uint8 (n_images, height, width, channels), class after class; often a read-only memory map.
    rows: for each class the numbers of its rows in `images`, int64 (n_class_images,).
    names: one per class.
    rotations: 1, or 4 so that rotating a class by 0, 90, 180 and 270 degrees gives four classes; class
        `4 * c + r` is then class c rotated by r quarter turns.
    source: full description of the pixels; its first word is the name of the data set.
    recorded: what the config of a training on exactly these classes names as its data; None: this is not known.
    """

    images: Pixels
    rows: tuple[NDArray[np.int64], ...]
    names: tuple[str, ...]
    source: str
    rotations: int = 1
    recorded: DataSource | None = None

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.names):
            raise DataError(
                f"expected a name for each class, found {len(self.names)} names for {len(self.rows)} classes"
            )
        if self.rotations not in (1, 4):
            raise DataError(f"rotations: expected 1 or 4, found {self.rotations}")
        if self.rotations == 4 and self.images.shape[1] != self.images.shape[2]:
            raise DataError(f"only square images can be rotated, found {list(self.images.shape[1:3])}")

    @property
    def n_classes(self) -> int:
        """Number of classes, including rotated ones."""
        return len(self.names) * self.rotations

    def n_images(self, class_index: int) -> int:
        """Number of images of a class."""
        return len(self.rows[class_index // self.rotations])

    def take(self, class_index: int, which: Sequence[int] | NDArray[np.int64]) -> Pixels:
        """Some images of a class, uint8 (len(which), height, width, channels)."""
        character, quarter_turns = divmod(class_index, self.rotations)
        return np.rot90(self.images[self.rows[character][which]], quarter_turns, axes=(1, 2))

    def subset(self, classes: Sequence[int], rotations: int = 1) -> ClassImages:
        """Only these classes of an unrotated set, in this order."""
        if self.rotations != 1:
            raise DataError("the classes are rotated already; choose the classes first, then their rotations")
        return ClassImages(
            images=self.images,
            rows=tuple(self.rows[c] for c in classes),
            names=tuple(self.names[c] for c in classes),
            source=self.source,
            rotations=rotations,
        )

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.source.partition(" ")[0]

    @property
    def digest(self) -> str:
        """SHA-256 of everything that determines the classes: the pixels' source, the names and the rotations.

        The pixels follow from these and are not hashed again: a source in the cache contains the preprocessing and the
        hashes of the data set's files (sizes and times for a folder), and the cache checks its own copy.
        """
        text = "\n".join([self.source, str(self.rotations), *self.names])
        return hashlib.sha256(text.encode()).hexdigest()


def cached(source: str, make: Callable[[], dict[str, Pixels]]) -> ClassImages:
    """The classes that `make` returns, name -> uint8 (n, height, width, channels), cached on disk.

    source: the key, a full description of what they are made from. A cached copy that differs by a byte from what was
    written is made again.
    Raises SaveError if the cache cannot be written, DataError if it cannot be read back.
    """
    folder = cache_folder() / f"{source.split()[0]}-{sha256(source.encode())[:32]}"
    with suppress(*DAMAGED):
        return read_cached(folder, source)[0]
    refusal = _write(folder, make())
    try:
        return read_cached(folder, source)[0]
    except DAMAGED as error:
        if refusal:
            raise SaveError(f"{refusal}; FEWSHOT_CACHE names another cache folder") from None
        raise DataError(f"{folder} was just written, but reads back damaged ({error}); check the disk") from None


def _write(folder: Path, classes: dict[str, Pixels]) -> FewshotError | None:
    """Write the classes; the error, if any, which does not matter if another process has written them meanwhile."""
    array = io.BytesIO()
    np.save(array, np.concatenate(list(classes.values())))
    counts = {name: len(images) for name, images in classes.items()}
    write = replace_folder if folder.is_dir() else write_folder
    try:
        write(folder, {IMAGES: array.getvalue(), CLASSES: json.dumps(counts).encode()})
        folder.chmod(0o700)
    except (OutputExists, SaveError) as error:
        return error
    except OSError as error:
        return SaveError(f"{folder} could not be closed to other users: {(error.strerror or str(error)).lower()}")
    return None


def read_cached(folder: Path, source: str) -> tuple[ClassImages, dict[str, bytes]]:
    """The classes in a cache folder, and its other files. Raises one of `DAMAGED` if it is not what was written."""
    if not is_private(folder):
        raise ValueError("it belongs to another user, or another user could have written it")
    entries = listed(read_bounded(folder / MANIFEST, MAX_TEXT_BYTES), folder)
    texts = {name: read_bounded(folder / name, _MAX_NAMES) for name in {CLASSES, *entries} - {IMAGES}}
    status = (folder / IMAGES).stat()
    pixels = _sha256_of(folder / IMAGES, status.st_ino, status.st_mtime_ns, status.st_size)
    found = {IMAGES: (pixels, status.st_size), **{name: (sha256(text), len(text)) for name, text in texts.items()}}
    if entries != found:
        raise ValueError("its files do not match its manifest")
    images, counts = _mapped(folder / IMAGES), json.loads(texts[CLASSES])
    if not all(type(n) is int and n >= 0 for n in counts.values()):
        raise ValueError(f"{CLASSES} does not count pictures")
    if images.dtype != np.uint8 or images.ndim != 4 or sum(counts.values()) != len(images):
        raise ValueError(f"expected {sum(counts.values())} uint8 images, found {images.dtype} {images.shape}")
    ends = np.cumsum(list(counts.values()))
    classes = ClassImages(
        images=images,
        rows=tuple(np.arange(end - n, end) for n, end in zip(counts.values(), ends, strict=True)),
        names=tuple(counts),
        source=source,
    )
    return classes, texts


def _mapped(path: Path) -> Pixels:
    try:
        images: Pixels = np.load(path, mmap_mode="r")
    except Exception as error:  # its parser raises anything from ValueError to tokenize.TokenError
        raise ValueError(f"{path.name} is not an array ({type(error).__name__})") from None
    return images


@cache
def _sha256_of(path: Path, *_state: int) -> str:
    """A file's SHA-256, computed once per process for each state of the file: inode, time of change, size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
