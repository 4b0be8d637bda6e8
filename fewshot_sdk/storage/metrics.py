"""metrics.jsonl: the progress of meta-training, a JSON object per line; those with an accuracy are the curve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fewshot_sdk.config.records import Metric, Progress
from fewshot_sdk.errors import ConfigError, SaveError
from fewshot_sdk.storage.files import overwrite_file

METRICS = "metrics.jsonl"


def to_lines(lines: Iterable[Progress]) -> bytes:
    """The lines as the bytes of a file, in the order of their steps."""
    ordered = sorted(lines, key=lambda line: line.meta_steps)
    return "".join(line.model_dump_json(exclude_none=True) + "\n" for line in ordered).encode()


def from_lines(data: bytes) -> tuple[tuple[Metric, ...], tuple[Progress, ...]]:
    """The points of the curve in such a file, and the lines between them. Raises ConfigError."""
    points: list[Metric] = []
    between: list[Progress] = []
    for line in data.splitlines():
        if b'"accuracy"' in line:
            points.append(Metric.from_json(line))
        else:
            between.append(Progress.from_json(line))
    return tuple(points), tuple(between)


def last_line(path: Path) -> Progress | None:
    """The last complete line of a file that is being written; None if there is none, or no such file."""
    try:
        whole = path.read_bytes().rpartition(b"\n")[0]
        points, between = from_lines(whole)
    except (OSError, ConfigError):
        return None
    return max((*points, *between), key=lambda line: line.meta_steps, default=None)


def begin(path: Path, lines: Iterable[Progress]) -> None:
    """Write the file anew, with the lines of the steps already done. Raises SaveError."""
    overwrite_file(path, to_lines(lines))


def append(path: Path, line: Progress) -> None:
    """Add a line to the file. Raises SaveError."""
    try:
        with path.open("ab") as file:
            file.write(to_lines([line]))
    except OSError as error:
        raise SaveError(f"could not write {path}: {(error.strerror or str(error)).lower()}") from None


def highest(points: Sequence[Metric]) -> Metric | None:
    """The point with the highest accuracy, the first of several; None without points."""
    return max(points, key=lambda point: point.accuracy, default=None)
