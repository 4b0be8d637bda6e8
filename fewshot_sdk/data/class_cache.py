"""Decoded data sets in the cache folder: made once, then memory-mapped by every process."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.errors import BundleError, DataError, FewshotError, OutputExists, SaveError
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.storage.files import MANIFEST, MAX_TEXT_BYTES, cache_folder, listed, read_bounded, sha256, write_folder
from fewshot_sdk.storage.replacement import replace_folder

IMAGES, CLASSES = "images.npy", "classes.json"
_MAX_NAMES = 64 * 2**20
_DAMAGED = (OSError, EOFError, ValueError, TypeError, AttributeError, BundleError)


def cached(source: str, make: Callable[[], dict[str, Pixels]]) -> ClassImages:
    """The classes that `make` gives, name -> uint8 (n, height, width, channels), kept on disk.

    `source` says what they are made of, in full: it is the key. A kept copy that is not, byte for byte, what was
    written is made anew.
    Raises SaveError if there is no room for it, DataError if it cannot be read back.
    """
    folder = cache_folder() / f"{source.split()[0]}-{sha256(source.encode())[:32]}"
    with suppress(*_DAMAGED):
        return _kept(folder, source)
    refusal = _keep(folder, make())
    try:
        return _kept(folder, source)
    except _DAMAGED as error:
        if refusal:
            raise SaveError(f"{refusal}; FEWSHOT_CACHE names another cache folder") from None
        raise DataError(f"{folder} was written just now and reads back damaged ({error}); check that disk") from None


def _keep(folder: Path, classes: dict[str, Pixels]) -> FewshotError | None:
    """Write the classes; what refused that, which does not matter if another process wrote them meanwhile."""
    array = io.BytesIO()
    np.save(array, np.concatenate(list(classes.values())))
    counts = {name: len(images) for name, images in classes.items()}
    write = replace_folder if folder.is_dir() else write_folder
    try:
        write(folder, {IMAGES: array.getvalue(), CLASSES: json.dumps(counts).encode()})
    except (OutputExists, SaveError) as error:
        return error
    return None


def _kept(folder: Path, source: str) -> ClassImages:
    """What a folder holds. Raises one of `_DAMAGED` if it is not what `_keep` wrote."""
    entries = listed(read_bounded(folder / MANIFEST, MAX_TEXT_BYTES), folder)
    names = read_bounded(folder / CLASSES, _MAX_NAMES)
    status = (folder / IMAGES).stat()
    pixels = _sha256_of(folder / IMAGES, status.st_ino, status.st_mtime_ns, status.st_size)
    if {name: expected for name, (expected, _) in entries.items()} != {CLASSES: sha256(names), IMAGES: pixels}:
        raise ValueError("its files are not those of its manifest")
    images, counts = np.load(folder / IMAGES, mmap_mode="r"), json.loads(names)
    if images.dtype != np.uint8 or images.ndim != 4 or sum(counts.values()) != len(images):
        raise ValueError(f"expected {sum(counts.values())} pictures of uint8, found {images.dtype} {images.shape}")
    ends = np.cumsum(list(counts.values()))
    return ClassImages(
        images=images,
        rows=tuple(np.arange(end - n, end) for n, end in zip(counts.values(), ends, strict=True)),
        names=tuple(counts),
        source=source,
    )


@cache
def _sha256_of(path: Path, *_when: int) -> str:
    """A file's SHA-256, worked out once in a process for each state of it: inode, time of change, bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
