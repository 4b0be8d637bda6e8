"""`fewshot doctor`, and what `fewshot adapt` has it say."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fewshot_cli.output import emit, emit_json, say
from fewshot_sdk.config import Preprocessing
from fewshot_sdk.doctor import LOOK, examine
from fewshot_sdk.errors import SupportError
from fewshot_sdk.sources import LabelFrom
from fewshot_sdk.support import SupportSet, read_pictures


def doctor(source: Path, query: Path | None, label_from: LabelFrom, json: bool) -> bool:
    """Prints what is wrong with a support set; whether nothing forbids to adapt to it."""
    support = read_pictures(source, LOOK, label_from)
    findings = examine(support, None if query is None else read_pictures(query, LOOK, "nothing"))
    if json:
        emit_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            emit(f"{finding.severity}: {finding.message}")
    errors = sum(finding.severity == "error" for finding in findings)
    classes = len({picture.label for picture in support.pictures})
    say(
        f"{len(support.pictures)} pictures of {classes} classes read: "
        f"{_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}"
    )
    return errors == 0


def read_examined(source: Path, settings: Preprocessing, label_from: LabelFrom) -> SupportSet:
    """The support set, its warnings told. Raises SupportError with all of its errors."""
    reading = read_pictures(source, settings, label_from)
    findings = examine(reading)
    for finding in findings:
        if finding.severity == "warning":
            say(f"warning: {finding.message}")
    if errors := [finding.message for finding in findings if finding.severity == "error"]:
        raise SupportError("\nerror: ".join(errors))
    return reading.support()


def _counted(n: int, what: str) -> str:
    return f"{n or 'no'} {what}{'' if n == 1 else 's'}"
