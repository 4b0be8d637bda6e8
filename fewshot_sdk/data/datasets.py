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

# what `DATASETS` refers to: of the folder with its files, if one is named, the settings, split and part, its classes
Reader = Callable[[Path | None, Preprocessing, str, Part], ClassImages]


def data_source(name: str) -> DataSource:
    """A data set with its usual split, by name. Raises DataError, listing the known ones."""
    opened = {name: row for name, row in DATASETS.items() if row.read}
    return DataSource(name=name, split=row_of(opened, name, "data set", DataError).splits[0])


def held_out(source: DataSource) -> Part:
    """The part to watch a training by: validation classes, where the split names some."""
    return "val" if "val" in DATASETS[source.name].parts else "test"


def open_dataset(
    source: DataSource,
    settings: Preprocessing,
    part: Part,
    root: Path | None = None,
) -> ClassImages:
    """The classes to train on, turned if `source` says so, or the unturned ones to validate or test on.

    root: the folder with the data set's files, where it has any (see `omniglot` and `mini_imagenet`).
    Raises DataError if they are missing or corrupt, or if the data set has no such part: only
    mini-ImageNet's split names classes for validation.
    """
    row = DATASETS[source.name]
    if not row.read:
        raise DataError(row.closed)
    if part not in row.parts:
        kind = {"train": "training", "val": "validation", "test": "test"}[part]
        raise DataError(f"{source.name} has no {kind} classes; take `test`, or some of `train`")
    classes = cast("Reader", referred(row.read))(root, settings, source.split, part)
    turned = 4 if source.rotations and part == "train" else 1
    return classes.subset(range(classes.n_classes), rotations=turned)
