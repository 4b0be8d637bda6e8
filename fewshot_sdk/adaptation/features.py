"""Adapting to features computed elsewhere: of texts, sounds, or the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.adaptation.adaptation import REJECT_RATE, Adaptation, compare_and_adapt
from fewshot_sdk.adaptation.cross_validation import Watch
from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.artifacts.embeddings import EMBEDDINGS, for_rows
from fewshot_sdk.config.recipe import Rows
from fewshot_sdk.config.records import Method
from fewshot_sdk.errors import ConfigError, SupportError
from fewshot_sdk.images.examination import Examined, Warn
from fewshot_sdk.images.feature_doctor import examine_features
from fewshot_sdk.images.features import FeatureTable, from_arrays, read_features

Head: TypeAlias = Literal["auto", "prototypes", "probe"]


def adapt_features(
    features: str | Path | NDArray[np.floating] | Sequence[Sequence[float]],
    labels: str | Path | Sequence[str] | None = None,
    *,
    method: Head = "auto",
    reject_rate: float | None = REJECT_RATE,
    seed: int = 0,
    warn: Warn = lambda finding: None,  # noqa: ARG005
) -> Classifier:
    """A classifier of feature vectors, as `fewshot adapt --support features.csv` makes it.

    features: a .csv with a column `label`, a .npz with `features` and `labels`, a .npy, or rows, (n, columns).
    labels: a text file with a label in each line, or the label of each row. method, reject_rate, seed,
    warn: as for `adapt`.
    Raises SupportError for unusable rows, with all errors that the doctor finds.
    """
    if not isinstance(features, str | Path):
        if labels is None or isinstance(labels, str | Path):
            raise SupportError(f"labels: expected a label for each of {len(features)} rows, found {labels!r}")
        table = from_arrays(features, labels)
    elif labels is None or isinstance(labels, str | Path):
        table = read_features(features, labels)
    else:
        raise SupportError(f"{features}: labels beside a file are in a file as well; pass its path")
    examined = examined_features(table, warn)
    return compare_features(examined, method=method, reject_rate=reject_rate, seed=seed).classifier


def examined_features(
    table: FeatureTable, warn: Warn = lambda finding: None, least: int = 2  # noqa: ARG005
) -> Examined:  # fmt: skip
    """Labelled rows with the doctor looking on, as `read_examined`. Raises SupportError with every error it finds.

    least: how many classes there must be.
    """
    support = table.support(least)
    findings = examine_features(table)
    warnings = tuple(finding for finding in findings if finding.severity == "warning")
    for finding in warnings:
        warn(finding)
    if errors := [finding.message for finding in findings if finding.severity == "error"]:
        raise SupportError(*errors)
    return Examined(supports={table.rows: support}, warnings=warnings)


def compare_features(
    examined: Examined, *, method: Method | Literal["auto"], reject_rate: float | None, seed: int,
    watch: Watch = lambda work, total: work,  # noqa: ARG005
) -> Adaptation:  # fmt: skip
    """`compare_and_adapt` for rows that were read and checked. Raises ConfigError for gradient steps."""
    if method == "reptile":
        raise ConfigError(f"method: features have no network that steps could move; expected probe, found {method}")
    ((rows, support),) = examined.supports.items()
    assert isinstance(rows, Rows)
    inits = {EMBEDDINGS: for_rows(support, rows)}
    return compare_and_adapt(inits, examined, method=method, reject_rate=reject_rate, seed=seed, watch=watch)
