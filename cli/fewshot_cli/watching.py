"""Progress while pictures are read and methods compared, and the doctor's warnings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.output import on_one_line, progress, say
from fewshot_sdk.errors import SHOWN

if TYPE_CHECKING:
    from fewshot_sdk.config.recipe import Preprocessing
    from fewshot_sdk.images.doctor import Finding
    from fewshot_sdk.images.examination import Examined
    from fewshot_sdk.images.sources import LabelFrom, SourceFile
    from fewshot_sdk.images.support import SupportSet


def watched(files: Iterator[SourceFile], total: int) -> Iterator[SourceFile]:
    """The files, with progress shown if reading takes longer than a second."""
    return progress(files, total, "reading", lambda file: Path(file.name).name, plain_seconds=1.0)


def cross_validated(work: Iterator[str], total: int) -> Iterator[str]:
    """The steps, with progress shown if cross-validation takes longer than a second."""
    return progress(work, total, "cross-validating", str, plain_seconds=1.0)


def warn(finding: Finding) -> None:
    """Print a warning of the doctor."""
    say(f"warning: {finding.message}")


def examined_aloud(
    source: Path, wanted: Sequence[Preprocessing], label_from: LabelFrom, *, skip_bad: bool, in_report: bool,
    kept: SupportSet | None = None,
) -> Examined:  # fmt: skip
    """`read_examined` with progress, and with its warnings printed; in_report: whether report.html will list them."""
    from fewshot_sdk.images.examination import read_examined

    with gathered(in_report) as warn:
        return read_examined(source, wanted, label_from, kept=kept, skip_bad=skip_bad, warn=warn, watch=watched)


@contextmanager
def gathered(in_report: bool) -> Iterator[Callable[[Finding], object]]:
    """A function that takes warnings, which are printed at the end by `lines`, whatever happens meanwhile."""
    findings: list[Finding] = []
    try:
        yield findings.append
    finally:
        for line in lines(
            findings, "report.html lists them" if in_report else "`fewshot doctor --json` lists them all"
        ):
            say(line)


def lines(findings: Sequence[Finding], more: str) -> Iterator[str]:
    """A line for each finding, but only the first five of a kind, with how many more there are and where."""
    kinds: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.severity, finding.code].append(finding)
    for (severity, code), found in kinds.items():
        for finding in found[:SHOWN]:
            yield on_one_line(f"{severity}: {finding.message}")
        if len(found) > SHOWN:
            yield f"{severity}: and {len(found) - SHOWN:,} more like these ({code}); {more}"
