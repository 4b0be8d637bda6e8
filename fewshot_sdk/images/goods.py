"""Pictures of good things, and perhaps a few of bad ones: which folder is which, read with the doctor looking on.

A folder of pictures, or of one class folder of any name, is of good ones. Of several class folders the one named
`good` (or `normal` or `ok`) has the good ones, and all others, whatever their names, have bad ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot_sdk.config.inspection import GOOD, NOT_GOOD
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import SupportError, listed
from fewshot_sdk.images.doctor import Finding, examine, unreadable
from fewshot_sdk.images.examination import Warn
from fewshot_sdk.images.folders import is_flat
from fewshot_sdk.images.sources import LabelFrom
from fewshot_sdk.images.support import Reading, SupportSet, Watch, read_pictures

NAMES = ("good", "normal", "ok")


@dataclass(frozen=True, kw_only=True, eq=False)
class Goods:
    """Pictures with the labels `good` and perhaps `not good`, and the doctor's warnings about them."""

    support: SupportSet
    warnings: tuple[Finding, ...] = ()


def of_one_class(source: Path) -> bool:
    """Whether a folder is of good pictures without being called so by an option.

    That is one that is itself named `good` and holds pictures, or one with a single class folder.
    """
    if not source.is_dir():
        return False
    if is_flat(source):
        return source.resolve().name.lower() in NAMES
    return len([entry for entry in source.iterdir() if entry.is_dir() and not entry.name.startswith(".")]) == 1


def label_from(source: Path) -> LabelFrom:
    """Where the labels of a source are: in its class folders, unless it is a folder of pictures."""
    return "nothing" if source.is_dir() and is_flat(source) else "folder"


def good_or_not(labels: Sequence[str], source: str | Path) -> dict[str, str]:
    """For each class its meaning, `good` or `not good`. Raises SupportError if none of several is named so."""
    names = sorted(set(labels))
    good = [name for name in names if name.lower() in NAMES] if len(names) > 1 else names
    if len(good) != 1:
        expected = "one of them named good, for the good pictures, and others for bad ones"
        raise SupportError(f"{source}: expected one class, or several with {expected}; found {listed(names)}")
    return {name: GOOD if name == good[0] else NOT_GOOD for name in names}


def read_goods(
    source: str | Path, preprocessing: Preprocessing, *,
    skip_bad: bool = False,
    warn: Warn = lambda finding: None,  # noqa: ARG005
    watch: Watch = lambda files, total: files,  # noqa: ARG005
) -> Goods:  # fmt: skip
    """The pictures of a source, every file read once. skip_bad, warn, watch: as for `read_examined`.

    Raises SupportError as `open_source` and `good_or_not` do, and with every error that the doctor finds.
    """
    reading = read_pictures(source, preprocessing, label_from(Path(source)), 1, watch)
    left_out = list(unreadable(reading, "warning")) if skip_bad else []
    reading = Reading(pictures=reading.pictures, unreadable={} if skip_bad else reading.unreadable)
    if left_out and not reading.pictures:
        raise SupportError(f"{source}: no picture can be read; the first problem: {left_out[0].message}")
    meant = good_or_not([picture.label for picture in reading.pictures] or [GOOD], source)
    pictures = tuple(replace(picture, label=meant[picture.label]) for picture in reading.pictures)
    reading = replace(reading, pictures=tuple(sorted(pictures, key=lambda picture: picture.label)))
    findings = [*left_out, *(each for each in examine(reading) if each.code not in ("few-shots", "imbalance"))]
    warnings = tuple(finding for finding in findings if finding.severity == "warning")
    for finding in warnings:
        warn(finding)
    if errors := [finding.message for finding in findings if finding.severity == "error"]:
        raise SupportError(*errors)
    return Goods(support=reading.support(), warnings=warnings)
