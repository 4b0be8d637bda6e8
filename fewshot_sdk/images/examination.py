"""A support set read with the doctor looking on: errors are raised, warnings told and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.doctor import Finding, examine, examine_more, unreadable
from fewshot_sdk.images.sources import LabelFrom
from fewshot_sdk.images.support import SupportSet, Watch, read_for_all

Warn = Callable[[Finding], object]


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """A support set as each of several settings sees it, and the doctor's warnings about it."""

    supports: Mapping[Preprocessing, SupportSet]
    warnings: tuple[Finding, ...] = ()


def read_examined(
    source: str | Path,
    wanted: Sequence[Preprocessing],
    label_from: LabelFrom = "folder",
    *,
    kept: SupportSet | None = None,
    skip_bad: bool = False,
    warn: Warn = lambda finding: None,  # noqa: ARG005
    watch: Watch = lambda files, total: files,  # noqa: ARG005
) -> Examined:
    """The support set in a folder, CSV or zip, by each of the settings, every file read once.

    kept: what a classifier has already, if this is to be added to it; then a single class is enough.
    skip_bad: leave out files that cannot be read, with a warning for each, and classes that have no others.
    warn: handed each warning, before any error is raised; watch: as for `read_pictures`.
    Raises SupportError as `open_source` does, and with every error that the doctor finds.
    """
    least = 2 if kept is None else 1
    readings = read_for_all(source, wanted, label_from, least, watch)
    left_out = list(unreadable(readings[wanted[0]], "warning")) if skip_bad else []
    if skip_bad:
        readings = {each: replace(reading, unreadable={}) for each, reading in readings.items()}
    first = readings[wanted[0]]
    if left_out and len({picture.label for picture in first.pictures}) < least:
        raise SupportError(
            f"{source}: too few classes have a picture that can be read; the first problem: {left_out[0].message}"
        )
    findings = left_out + (examine(first) if kept is None else examine_more(first, kept))
    warnings = tuple(finding for finding in findings if finding.severity == "warning")
    for finding in warnings:
        warn(finding)
    if errors := [finding.message for finding in findings if finding.severity == "error"]:
        raise SupportError(*errors)
    return Examined(supports={each: reading.support() for each, reading in readings.items()}, warnings=warnings)
