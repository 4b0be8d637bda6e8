"""The doctor for features: what is wrong with labelled rows of numbers, and what to do about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from fewshot_sdk.errors import SHOWN, listed
from fewshot_sdk.images.doctor import Finding, counts, odd_names
from fewshot_sdk.images.features import FeatureTable

FAR = 100  # times as long as the median row: another unit, or a mistake
TABLE = 100  # columns; embeddings have more, and some that are 0 for all of a few rows


def examine_features(table: FeatureTable) -> list[Finding]:
    """The problems of labelled rows, errors first."""
    found = [
        *_copies(table),
        *_lengths(table),
        *_columns(table),
        *odd_names(table.labels),
        *counts(table.labels, "row"),
    ]
    return sorted(found, key=lambda finding: finding.severity)  # "error" < "warning"; a stable sort


def _copies(table: FeatureTable) -> Iterator[Finding]:
    same = defaultdict(list)
    for i, row in enumerate(table.features):
        same[row.tobytes()].append(i)
    for group in same.values():
        if len(group) < 2:
            continue
        names = _named([table.names[i] for i in group])
        if len({table.labels[i] for i in group}) > 1:
            yield Finding(
                severity="error", code="contradiction",
                message=f"{names} have the same numbers under different labels; keep the right one and remove the rest",
            )  # fmt: skip
        else:
            yield _warning("duplicate", f"{names} have the same numbers; keep one, as copies teach nothing new")


def _lengths(table: FeatureTable) -> Iterator[Finding]:
    lengths = np.linalg.norm(table.features.astype(np.float64), axis=1)
    if len(empty := np.flatnonzero(lengths == 0)):
        names = listed([table.names[i] for i in empty])
        yield _warning(
            "blank", f"{names}: all numbers are 0, as features of nothing are; check what they are made from"
        )
    typical = float(np.median(lengths))
    if len(far := np.flatnonzero(lengths > FAR * typical)) and typical > 0:
        names = listed([table.names[i] for i in far])
        yield _warning("scale", f"{names}: more than {FAR} times as long as most rows; check their units")


def _columns(table: FeatureTable) -> Iterator[Finding]:
    constant = np.flatnonzero(np.ptp(table.features, axis=0) == 0)
    if len(constant) and len(table.features) > 1 and table.features.shape[1] <= TABLE:
        named = [table.columns[i] if table.columns else str(i) for i in constant[:SHOWN]]
        more = f" and {len(constant) - SHOWN:,} more" if len(constant) > SHOWN else ""
        what = "the column" if len(constant) == 1 else "the columns"
        yield _warning(
            "constant", f"{what} {', '.join(named)}{more}: the same number in every row, which tells nothing"
        )


def _named(rows: list[str]) -> str:
    """The names of rows, with the name of their file once."""
    file, mark, _ = rows[0].rpartition(", row ")
    if mark and all(row.startswith(f"{file}{mark}") for row in rows):
        return f"{file}, rows {listed([row.removeprefix(file + mark) for row in rows])}"
    return listed(rows)


def _warning(code: str, message: str) -> Finding:
    return Finding(severity="warning", code=code, message=message)
