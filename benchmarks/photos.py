"""`fewshot adapt` beside what one would otherwise do with a few photographs, on any folders of class folders.

    python -m benchmarks.photos FOLDER... [--shots N] [--splits N] [--queries N] [--seed N]
        [--features INIT] [--json]

FOLDER: a folder of class folders, or a zip of one. In each split, `--shots` pictures of each class are drawn to learn
from, and the others (at most `--queries` of each class) are classified. All methods get the same splits. Prints, for
each folder and method, a Markdown row: accuracy and the 95 % interval of its mean over the splits (Student's t), the
accuracy of `fewshot adapt` minus this one with the interval of the paired differences, the median seconds from files to
a classifier, the stored classifier's size, and the peak memory of the process that did all splits. The splits share
pictures, so the intervals say how much chance is in the splits, not in the pictures. With one picture of a class left
out, at least `--shots` + 1 are needed; smaller classes are left out, and named.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.processes import Child
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.sources import open_source
from fewshot_sdk.intervals import interval, interval_of_few

if TYPE_CHECKING:
    from benchmarks.photo_methods import Answer

Labelled = list[tuple[Path, str]]
Question = tuple[Labelled, Labelled, int]
OURS = "fewshot adapt"
NAMES = (OURS, "HOG and colour, logistic regression", "frozen features, logistic regression")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method on one folder: means over the splits and half-widths of their 95 % intervals, in percent.

    lead: the accuracy of `fewshot adapt` minus this one.
    """

    pictures: str
    method: str
    accuracy: float
    accuracy_error: float
    lead: float
    lead_error: float
    seconds: float
    model_megabytes: float
    peak_megabytes: float
    chosen: dict[str, int]
    accuracies: list[float]


def split(labels: Sequence[str], shots: int, queries: int, seed: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Rows to learn from, `shots` of each class, and rows to classify, at most `queries` of each; none is in both."""
    rng = np.random.default_rng(seed)
    support: list[int] = []
    others: list[int] = []
    for label in sorted(set(labels)):
        rows = rng.permutation([i for i, found in enumerate(labels) if found == label]).tolist()
        support += sorted(rows[:shots])
        others += sorted(rows[shots : shots + queries])
    return support, others


def pictures_of(source: Path, folder: Path, shots: int) -> tuple[Labelled, list[str]]:
    """The pictures of a source as files below `folder`, and the classes with too few of them."""
    files: Labelled = []
    with open_source(source) as found:
        counts = Counter(file.label for file in found)
        small = sorted(label for label, n in counts.items() if n <= shots)
        for i, file in enumerate(found):
            if file.label not in small:
                place = folder / f"{i:06}{Path(file.name).suffix.lower()}"
                place.write_bytes(file.read())
                files.append((place, file.label))
    if len(counts) - len(small) < 2:
        raise SupportError(f"{source}: expected two classes with more than {shots} pictures; take fewer --shots")
    return files, small


def measure(
    source: Path, names: Sequence[str], shots: int, splits: int, queries: int, seed: int, features_of: str = "photo"
) -> list[Row]:
    """A row for each method, on one folder or zip."""
    with tempfile.TemporaryDirectory() as folder:
        files, small = pictures_of(source, Path(folder), shots)
        if small:
            print(f"{source.name}: left out, with at most {shots} pictures: {', '.join(small)}", file=sys.stderr)
        drawn = [split([label for _, label in files], shots, queries, (seed, i)) for i in range(splits)]
        questions: list[Question] = [
            ([files[i] for i in known], [files[i] for i in others], seed) for known, others in drawn
        ]
        answers = {}
        for name in names:
            child: Child[Question, Answer] = Child(name, _method, name, features_of)
            answers[name] = [child.ask(question) for question in questions]
            child.end()
    accuracies = {name: [100 * statistics.fmean(one.right) for one in found] for name, found in answers.items()}
    rows = []
    for name, found in answers.items():
        accuracy, error = _interval(accuracies[name])
        ahead = [ours - theirs for ours, theirs in zip(accuracies[names[0]], accuracies[name], strict=True)]
        lead, lead_error = _interval(ahead)
        rows.append(
            Row(
                pictures=source.stem,
                method=name,
                accuracy=accuracy,
                accuracy_error=error,
                lead=lead,
                lead_error=lead_error,
                seconds=statistics.median(one.seconds for one in found),
                model_megabytes=statistics.median(one.model_megabytes for one in found),
                peak_megabytes=max(one.peak_megabytes for one in found),
                chosen=dict(Counter(one.chosen for one in found if one.chosen)),
                accuracies=accuracies[name],
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = "| pictures | method | accuracy, % | `fewshot adapt` minus it | seconds | model, MB | peak, MB |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for row in rows:
        lead = "" if row.method == OURS else f"{row.lead:+.1f} ± {row.lead_error:.1f}"
        lines.append(
            f"| {row.pictures} | {row.method} | {row.accuracy:.1f} ± {row.accuracy_error:.1f} | {lead} | "
            f"{row.seconds:.1f} | {row.model_megabytes:.1f} | {row.peak_megabytes:.0f} |"
        )
    return "\n".join(lines)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    return interval_of_few(values) if len(values) <= 30 else interval(values)


def _method(name: str, features_of: str) -> Callable[[Question], Answer]:
    """The method, in a process of its own, where alone scikit-learn and PyTorch are imported."""
    from benchmarks.photo_methods import method

    return method(name, features_of)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="`fewshot adapt` beside its peers on folders of photographs.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folders or zips of class folders")
    parser.add_argument("--shots", type=int, default=5, help="pictures of each class to learn from")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--queries", type=int, default=1000, help="at most so many other pictures of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", default="photo", help="the initialization whose frozen features are compared")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    rows = [
        row
        for folder in options.folders
        for row in measure(
            folder, NAMES, options.shots, options.splits, options.queries, options.seed, options.features
        )
    ]
    if options.json:
        print(json.dumps([vars(row) for row in rows]))
        return
    print(table(rows))
    for row in rows:
        if row.chosen:
            print(f"{row.pictures}: {', '.join(f'{n} x {choice}' for choice, n in row.chosen.items())}")


if __name__ == "__main__":
    main()
