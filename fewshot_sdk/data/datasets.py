"""The data sets by name, split into classes for training, for choosing settings, and for testing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fewshot_sdk.config.recipe import DataSource, Preprocessing
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.glyphs import glyphs
from fewshot_sdk.data.mini_imagenet import mini_imagenet
from fewshot_sdk.data.omniglot import omniglot
from fewshot_sdk.errors import DataError

Part = Literal["train", "val", "test"]
GLYPH_CLASSES, GLYPH_DRAWERS = 600, 20

DATASETS = {
    "omniglot": DataSource(name="omniglot", split="paper"),
    "mini-imagenet": DataSource(name="mini-imagenet", split="ravi"),
    "glyphs": DataSource(name="glyphs", split="seeded"),
}


def data_source(name: str) -> DataSource:
    """A data set with its usual split, by name. Raises DataError, listing the known ones."""
    if name not in DATASETS:
        raise DataError(f"no data set {name!r}; the data sets are {', '.join(DATASETS)}")
    return DATASETS[name]


def held_out(source: DataSource) -> Part:
    """The part to watch a training by: validation classes, where the split names some."""
    return "val" if source.name == "mini-imagenet" else "test"


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
    if source.name == "timm":
        raise DataError("what a timm model was trained on is not at hand; name other data, in the shell by --data")
    if part == "val" and source.name != "mini-imagenet":
        raise DataError(f"{source.name} has no validation classes; take `test`, or some of `train`")
    if source.name == "glyphs":
        first = 0 if part == "train" else GLYPH_CLASSES
        classes = glyphs(GLYPH_CLASSES, GLYPH_DRAWERS, settings, first=first)
    elif source.name == "mini-imagenet":
        classes = mini_imagenet(root, settings, part)
    else:
        classes = omniglot(root, settings, source.split, part)
    turned = 4 if source.rotations and part == "train" else 1
    return classes.subset(range(classes.n_classes), rotations=turned)
