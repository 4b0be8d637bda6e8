"""What is told while pictures are read and compared: progress, and the doctor's warnings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.output import progress, say

if TYPE_CHECKING:
    from fewshot_sdk.images.doctor import Finding
    from fewshot_sdk.images.sources import SourceFile


def watched(files: Iterator[SourceFile], total: int) -> Iterator[SourceFile]:
    """Progress of reading, once it takes longer than a second."""
    return progress(files, total, "reading", lambda file: Path(file.name).name, plain_seconds=1.0)


def cross_validated(work: Iterator[str], total: int) -> Iterator[str]:
    """Progress of cross-validation, once it takes longer than a second."""
    return progress(work, total, "cross-validating", str, plain_seconds=1.0)


def warn(finding: Finding) -> None:
    """A warning of the doctor's."""
    say(f"warning: {finding.message}")
