"""The data sets by name, split into classes for training, for choosing settings, and for testing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from fewshot_sdk.config.datasets import DATASETS
from fewshot_sdk.config.datasets import Part as Part
from fewshot_sdk.config.recipe import DataSource, Preprocessing
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.errors import DataError
from fewshot_sdk.tables import referred, row_of

# the function that `DATASETS` names as `read`: (folder of the files or None, settings, split, part) -> classes
Reader = Callable[[Path | None, Preprocessing, str, Part], ClassImages]


def data_source(name: str) -> DataSource:
    """A data set with its default split, by name. Raises DataError, which lists the known ones."""
    readable = {name: row for name, row in DATASETS.items() if row.read}
    return DataSource(name=name, split=row_of(readable, name, "data set", DataError).splits[0])


def held_out(source: DataSource) -> Part:
    """The part for evaluation during training: validation classes if the split has some, otherwise test classes."""
    return "val" if "val" in source.row.parts else "test"


def open_dataset(
    source: DataSource,
    settings: Preprocessing,
    part: Part,
    root: Path | None = None,
) -> ClassImages:
    """The classes of one part: for training, with rotations if `source` asks for them, for validation or for testing.

    root: the folder with the data set's files, if it has any (see `omniglot` and `mini_imagenet`).
    Raises DataError if files are missing or corrupt, or if the data set has no such part: only
    mini-ImageNet's split has validation classes.
    """
    row = source.row
    if not row.read:
        raise DataError(row.closed)
    if part not in row.parts:
        kind = {"train": "training", "val": "validation", "test": "test"}[part]
        raise DataError(f"{source.name} has no {kind} classes; use `test`, or some of `train`")
    classes = cast("Reader", referred(row.read))(root, settings, source.split, part)
    rotations = 4 if source.rotations and part == "train" else 1
    return classes.subset(range(classes.n_classes), rotations=rotations)
