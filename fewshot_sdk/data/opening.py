"""The data sets by name, split into classes for training, for choosing settings, and for testing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast

from fewshot_sdk.config.datasets import DATASETS
from fewshot_sdk.config.datasets import Part as Part
from fewshot_sdk.config.recipe import DataSource, Preprocessing
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.own_classes import KINDS, Warn, classes_of, divide
from fewshot_sdk.data.own_pictures import read_own
from fewshot_sdk.errors import DataError
from fewshot_sdk.images.doctor import Finding
from fewshot_sdk.images.support import Watch
from fewshot_sdk.tables import referred, row_of

# the function that `DATASETS` names as `read`: (folder of the files or None, settings, split, part) -> classes
Reader = Callable[[Path | None, Preprocessing, str, Part], ClassImages]

HELD_OUT: tuple[Part, ...] = ("val", "test")


def warned(finding: Finding) -> None:
    """Tell a finding as a Python warning."""
    warnings.warn(finding.message, stacklevel=3)


def data_source(name: str) -> DataSource:
    """A data set with its default split, by name. Raises DataError, which lists the known ones."""
    readable = {name: row for name, row in DATASETS.items() if row.read}
    return DataSource(name=name, split=row_of(readable, name, "data set", DataError).splits[0])


def named(data: str) -> DataSource | Path:
    """A data set of the table, or the path of one's own classes. Raises DataError if it is neither."""
    if data in DATASETS:
        return data_source(data)
    if Path(data).exists():
        return Path(data)
    if Path(data).name != data or Path(data).suffix:
        raise DataError(f"{data}: there is no such folder, zip or CSV")
    try:
        return data_source(data)
    except DataError as error:
        raise DataError(f"{error}; nor is there a folder, zip or CSV of that name") from None


def held_out(source: DataSource) -> Part | None:
    """The part for evaluation during training: validation classes if the split has some, else test classes, if any."""
    return next((part for part in HELD_OUT if part in source.row.parts), None)


def open_dataset(
    source: DataSource | str | Path, settings: Preprocessing, part: Part, root: Path | None = None,
    *, split: str | None = None, split_seed: int | None = None, skip_small: bool = False, k_shot: int = 1,
    warn: Warn = warned, watch: Watch = lambda files, total: files,  # noqa: ARG005
) -> ClassImages:  # fmt: skip
    """The classes of one part: for training, with rotations if `source` asks for them, for validation or for testing.

    source: a data set as a recipe names it, or by its name; or the path of a folder, zip or CSV of one's own classes.
    root: the folder with the data set's files, if it has any (see `omniglot` and `mini_imagenet`); the path of one's
    own classes if a recipe names them.
    split, split_seed, k_shot, skip_small, warn: for a path, as for `own_classes.divide`; warn: by default Python's
    `warnings`. watch: wraps the iterator over a path's files; also given their number, to show progress.
    Raises DataError if files are missing or corrupt, if the data set has no such part (of the named ones only
    mini-ImageNet has validation classes), or if one's own classes are not those that `source` records; for a path also
    SupportError, as `images.sources.open_source` does.
    """
    if not isinstance(source, DataSource):
        found = named(source) if isinstance(source, str) else source
        if isinstance(found, Path):
            pictures = read_own(found, settings, watch)
            divided = divide(
                pictures, found, split=split, seed=split_seed, k_shot=k_shot, skip_small=skip_small, warn=warn
            )
            return classes_of(pictures, divided, settings, part)
        source = found
    if split is not None or split_seed is not None:
        raise DataError(f"{source.name}: a split and its seed are for a path; leave them out")
    if source.own is not None:
        if root is None:
            raise DataError(
                f"{source.name} is your own data, but not where it is: name the folder, zip or CSV by --data PATH"
            )
        return classes_of(read_own(root, settings, watch), source, settings, part)
    row = source.row
    if not row.read:
        raise DataError(row.closed)
    if part not in row.parts:
        raise DataError(f"{source.name} has no {KINDS[part]} classes; use `test`, or some of `train`")
    classes = cast("Reader", referred(row.read))(root, settings, source.split, part)
    rotations = 4 if source.rotations and part == "train" else 1
    return classes.subset(range(classes.n_classes), rotations=rotations)
