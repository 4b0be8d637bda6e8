"""What `fewshot predict`, `test` and `doctor` do with rows of features, from CSVs and NumPy's files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_sdk.errors import ConfigError, SupportError

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.classifier import Classifier
    from fewshot_sdk.config.recipe import Rows
    from fewshot_sdk.images.doctor import Finding
    from fewshot_sdk.images.features import FeatureTable
    from fewshot_sdk.runtime.predictions import Prediction
    from fewshot_sdk.runtime.predictor import Predictor
    from fewshot_sdk.runtime.scoring import Trial
    from fewshot_sdk.runtime.streaming import Answer


def rows_of(model: Classifier | Predictor) -> Rows | None:
    """The settings of a classifier of features; None for one of pictures."""
    from fewshot_sdk.config.recipe import Rows

    return model.preprocessing if isinstance(model.preprocessing, Rows) else None


def tables(paths: Sequence[Path], rows: Rows) -> list[FeatureTable]:
    """The features in each of these files. Raises SupportError for another kind of file, too."""
    from fewshot_sdk.images.features import SUFFIXES, read_features

    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise SupportError(
                f"{path}: expected a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, because this classifier takes rows "
                f"of {rows.width} numbers"
            )
    return [read_features(path, like=rows) for path in paths]


def answers(
    model: Classifier | Predictor, found: Sequence[FeatureTable], threshold: float | None
) -> Iterator[Answer[str]]:
    """An answer for each row, in order. threshold: the probability under which a row is unknown, too."""
    from fewshot_sdk.runtime.streaming import Answer

    for table in found:
        for name, prediction in zip(table.names, _predicted(model, table), strict=True):
            under = threshold is not None and prediction.probability < threshold
            yield Answer(source=name, prediction=replace(prediction, label=None) if under else prediction)


def trials(model: Classifier | Predictor, source: Path, labels: Path | None, rows: Rows) -> tuple[list[Trial], int]:
    """The answers for labelled rows, and how many of these the classifier learned from, if it kept them."""
    from fewshot_sdk.images.features import read_features
    from fewshot_sdk.runtime.scoring import Trial

    table = read_features(source, labels, like=rows)
    if not table.labels:
        raise SupportError(f"{source}: it has no labels; expected a column label, or an array labels")
    found = [
        Trial(name=name, truth=truth, answer=one.label, nearest=one.nearest, probability=one.probability)
        for name, truth, one in zip(table.names, table.labels, _predicted(model, table), strict=True)
    ]
    support = getattr(model, "support", None)
    learned = set() if support is None else {row.tobytes() for row in support.images}
    return found, sum(row.tobytes() in learned for row in table.features)


def examined(source: Path) -> tuple[list[Finding], int, int]:
    """What the doctor finds in labelled rows, and how many rows and classes there are."""
    from fewshot_sdk.images.feature_doctor import examine_features
    from fewshot_sdk.images.features import read_features

    table = read_features(source)
    if not table.labels:
        raise SupportError(f"{source}: it has no labels; expected a column label, or an array labels")
    return examine_features(table), len(table.names), len(set(table.labels))


def _predicted(model: Classifier | Predictor, table: FeatureTable) -> list[Prediction]:
    from fewshot_sdk.images.features import as_images
    from fewshot_sdk.runtime.predictions import to_predictions

    return to_predictions(*model.answers(as_images(table.features)), model.labels)


def refuse_pictures(unfit: Sequence[str], model: Path) -> None:
    """Raises ConfigError if there are options that are for pictures."""
    if unfit:
        raise ConfigError(f"{model} takes features, and {unfit[0]} is for pictures; leave it out")
