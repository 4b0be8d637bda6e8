"""Progress while pictures are read and methods compared, and the doctor's warnings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.output import progress, say

if TYPE_CHECKING:
    from fewshot_sdk.images.doctor import Finding
    from fewshot_sdk.images.sources import SourceFile


def watched(files: Iterator[SourceFile], total: int) -> Iterator[SourceFile]:
    """The files, with progress shown if reading takes longer than a second."""
    return progress(files, total, "reading", lambda file: Path(file.name).name, plain_seconds=1.0)


def cross_validated(work: Iterator[str], total: int) -> Iterator[str]:
    """The steps, with progress shown if cross-validation takes longer than a second."""
    return progress(work, total, "cross-validating", str, plain_seconds=1.0)


def warn(finding: Finding) -> None:
    """Print a warning of the doctor."""
    say(f"warning: {finding.message}")
