"""The data sets by name, split into classes for training and classes for testing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fewshot_sdk.class_images import ClassImages
from fewshot_sdk.config import DataSource, Preprocessing
from fewshot_sdk.errors import DataError
from fewshot_sdk.glyphs import glyphs
from fewshot_sdk.omniglot import omniglot

GLYPH_CLASSES, GLYPH_DRAWERS = 600, 20


DATASETS = {
    "omniglot": DataSource(name="omniglot", split="paper"),
    "glyphs": DataSource(name="glyphs", split="seeded"),
}


def data_source(name: str) -> DataSource:
    """A data set with its usual split, by name. Raises DataError, listing the known ones."""
    if name not in DATASETS:
        raise DataError(f"no data set {name!r}; the data sets are {', '.join(DATASETS)}")
    return DATASETS[name]


def open_dataset(
    source: DataSource,
    settings: Preprocessing,
    part: Literal["train", "test"],
    root: Path | None = None,
) -> ClassImages:
    """The classes to train on, turned if `source` says so, or the unturned ones to test on.

    root: the folder with the data set's files, where it has any (see `omniglot`).
    Raises DataError if they are missing or corrupt.
    """
    if source.name == "glyphs":
        first = 0 if part == "train" else GLYPH_CLASSES
        classes = glyphs(GLYPH_CLASSES, GLYPH_DRAWERS, settings, first=first)
    else:
        classes = omniglot(root, settings, source.split, part)
    turned = 4 if source.rotations and part == "train" else 1
    return classes.subset(range(classes.n_classes), rotations=turned)
