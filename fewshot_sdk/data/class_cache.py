"""Decoded data sets in the cache folder: made once, then memory-mapped by every process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import numpy as np

from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.errors import BundleError, DataError, OutputExists, SaveError
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.storage.files import cache_folder, read_bounded, sha256, write_folder

_MAX_NAMES = 64 * 2**20


def cached(source: str, make: Callable[[], dict[str, Pixels]]) -> ClassImages:
    """The classes that `make` gives, name -> uint8 (n, height, width, channels), kept on disk.

    `source` says what they are made of, in full: it is the key.
    Raises DataError if the cached copy is damaged, SaveError if there is no room for it.
    """
    folder = cache_folder() / f"{source.split()[0]}-{sha256(source.encode())[:32]}"
    if not folder.is_dir():
        classes = make()
        array = io.BytesIO()
        np.save(array, np.concatenate(list(classes.values())))
        counts = {name: len(images) for name, images in classes.items()}
        try:
            write_folder(folder, {"images.npy": array.getvalue(), "classes.json": json.dumps(counts).encode()})
        except (OutputExists, SaveError) as error:
            if not folder.is_dir():  # else another process made the same one meanwhile
                raise SaveError(f"{error}; FEWSHOT_CACHE names another cache folder") from None
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        counts = json.loads(read_bounded(folder / "classes.json", _MAX_NAMES))
        if sum(counts.values()) != len(images):
            raise ValueError("the number of images is wrong")
    except (OSError, ValueError, AttributeError, TypeError, BundleError) as error:
        raise DataError(f"the cached copy {folder} is damaged ({error}); remove it and try again") from None
    ends = np.cumsum(list(counts.values()))
    return ClassImages(
        images=images,
        rows=tuple(np.arange(end - n, end) for n, end in zip(counts.values(), ends, strict=True)),
        names=tuple(counts),
        source=source,
    )
