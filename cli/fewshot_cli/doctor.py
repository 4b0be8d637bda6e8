"""`fewshot doctor`, and what `fewshot adapt` has it say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.doctor import LOOK, Finding, examine, examine_more
from fewshot_sdk.images.sources import LabelFrom, SourceFile
from fewshot_sdk.images.support import Reading, SupportSet, read_for_all, read_pictures


def doctor(source: Path, query: Path | None, label_from: LabelFrom, json: bool) -> bool:
    """Prints what is wrong with a support set; whether nothing forbids to adapt to it."""
    support = read_pictures(source, LOOK, label_from, watch=watch)
    findings = examine(support, None if query is None else read_pictures(query, LOOK, "nothing", watch=watch))
    if json:
        emit_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            emit(f"{finding.severity}: {finding.message}")
    errors = sum(finding.severity == "error" for finding in findings)
    classes = len({picture.label for picture in support.pictures})
    say(
        f"{_counted(len(support.pictures), 'picture')} of {_counted(classes, 'class', 'classes')} read: "
        f"{_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}"
    )
    return errors == 0


class Examined:
    """A support set that the doctor looks at when it is first read. Its findings are kept, the warnings told.

    expected: settings that it will be read by; all of them are in one pass. kept: what it is to be added to.
    """

    def __init__(self, source: Path, label_from: LabelFrom) -> None:
        self._source, self._label_from = source, label_from
        self.kept: SupportSet | None = None
        self.findings: list[Finding] | None = None
        self.expected: tuple[Preprocessing, ...] = ()
        self._read: dict[Preprocessing, Reading] = {}

    def __call__(self, settings: Preprocessing) -> SupportSet:
        """The support set as a recipe sees it. Raises SupportError with all of its errors."""
        if settings not in self._read:
            least = 2 if self.kept is None else 1  # to a classifier a single class can be added
            self._read |= read_for_all(self._source, (settings, *self.expected), self._label_from, least, watch)
        reading = self._read[settings]
        if self.findings is None:
            self.findings = examine(reading) if self.kept is None else examine_more(reading, self.kept)
            for finding in self.findings:
                if finding.severity == "warning":
                    say(f"warning: {finding.message}")
            if errors := [finding.message for finding in self.findings if finding.severity == "error"]:
                raise SupportError("\nerror: ".join(errors))
        return reading.support()


def watch(files: Iterator[SourceFile], total: int) -> Iterator[SourceFile]:
    """Progress of reading, once it takes longer than a second."""
    return progress(files, total, "reading", lambda file: Path(file.name).name, plain_seconds=1.0)


def _counted(n: int, one: str, many: str = "") -> str:
    return f"{n or 'no'} {one if n == 1 else many or one + 's'}"
