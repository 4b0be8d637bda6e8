"""Images grouped by class: what every data set becomes and every task is drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.errors import DataError
from fewshot_sdk.images.preprocessing import Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassImages:
    """Classes of images of one size.

    images: uint8, (n_images, height, width, channels), the classes one after the other; often a
        read-only memory map.
    rows: for each class the rows of `images` that are its own, as int64 (n_class_images,).
    names: one per class.
    rotations: 1, or 4 to make each class turned by 0, 90, 180 and 270 degrees a class of its own;
        class `4 * c + r` is then class c turned r quarters.
    source: what the pixels are, in full; the first word names the data set.
    """

    images: Pixels
    rows: tuple[NDArray[np.int64], ...]
    names: tuple[str, ...]
    source: str
    rotations: int = 1

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.names):
            raise DataError(f"expected a name for each class, found {len(self.names)} for {len(self.rows)}")
        if self.rotations not in (1, 4):
            raise DataError(f"rotations: expected 1 or 4, found {self.rotations}")
        if self.rotations == 4 and self.images.shape[1] != self.images.shape[2]:
            raise DataError(f"only square images can be turned, found {list(self.images.shape[1:3])}")

    @property
    def n_classes(self) -> int:
        """How many classes there are, turned ones counted."""
        return len(self.names) * self.rotations

    def n_images(self, class_index: int) -> int:
        """How many images a class has."""
        return len(self.rows[class_index // self.rotations])

    def take(self, class_index: int, which: Sequence[int] | NDArray[np.int64]) -> Pixels:
        """Some images of a class, uint8 (len(which), height, width, channels)."""
        character, quarter_turns = divmod(class_index, self.rotations)
        return np.rot90(self.images[self.rows[character][which]], quarter_turns, axes=(1, 2))

    def subset(self, classes: Sequence[int], rotations: int = 1) -> ClassImages:
        """Only these classes of an unturned set, in this order."""
        if self.rotations != 1:
            raise DataError("choose the classes first, then their rotations")
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
        """SHA-256 of what the classes are made of: the pixels' source, the names and the rotations.

        The pixels follow from these and are not hashed again: a source in the cache names the data set's files by
        their hashes (those of a folder by size and time) and the preprocessing, and the cache checks its own copy.
        """
        text = "\n".join([self.source, str(self.rotations), *self.names])
        return hashlib.sha256(text.encode()).hexdigest()
