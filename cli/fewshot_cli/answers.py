"""What `fewshot predict` prints and writes about each picture, as the answers come."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from fewshot_cli.output import emit, emit_json, emit_json_list, on_one_line
from fewshot_sdk.errors import SaveError
from fewshot_sdk.storage.drafts import draft_beside, rename_new
from fewshot_sdk.storage.files import check_free_file
from fewshot_sdk.storage.rendering import decoded
from fewshot_sdk.storage.sorting import UNKNOWN

if TYPE_CHECKING:
    from fewshot_sdk.runtime.predictions import Prediction


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A picture and its prediction, or why there is none, or why it could not be sorted.

    heat_map: the file that explains it.
    """

    image: str
    prediction: Prediction | None
    error: str = ""
    heat_map: str = ""


Show: TypeAlias = Callable[[Answered], None]


def best(found: Prediction, top: int) -> list[tuple[str, float]]:
    """The most probable labels, `top` at most; ties are in the order of the labels."""
    return sorted(found.probabilities.items(), key=lambda pair: -pair[1])[:top]


def lines(width: int, top: int | None) -> Show:
    """Prints a line for each prediction. width: of the column of names."""

    def show(answered: Answered) -> None:
        found = answered.prediction
        if found is None:
            return
        if found.label is None:
            answer = f"unknown (nearest: {found.nearest} {found.probability:.1%})"
        else:
            answer = f"{found.label}  {found.probability:.1%}"
        others = "".join(f", {label} {probability:.1%}" for label, probability in best(found, top or 1)[1:])
        emit(on_one_line(f"{answered.image:<{width}}  {answer}{others}"))

    return show


def row(answered: Answered, top: int | None) -> dict[str, object]:
    """The answer as JSON; top: probabilities of only so many labels, the highest first."""
    if answered.prediction is None:
        return {"image": answered.image, "error": answered.error}
    found = {"image": answered.image, **asdict(answered.prediction)}
    if top is not None:
        found["probabilities"] = dict(best(answered.prediction, top))
    more = {"heat_map": answered.heat_map, "error": answered.error}
    return {**found, **{name: text for name, text in more.items() if text}}


def json_lines(top: int | None) -> Show:
    """Prints a line of JSON for each picture."""
    return lambda answered: emit_json(row(answered, top), one_line=True)


@contextmanager
def json_list(top: int | None) -> Iterator[Show]:
    """Prints a list as JSON, item by item; its end is missing if an error ends the work."""
    with emit_json_list() as item:
        yield lambda answered: item(row(answered, top))


@contextmanager
def table(path: Path, top: int | None) -> Iterator[Show]:
    """A CSV with a row for each picture, which has its name once it is complete; `-`: on stdout.

    Raises SaveError if the disk refuses, OutputExists if the file is there already.
    """
    labels = [f"{name}{i}" for i in range(2, (top or 1) + 1) for name in ("label", "probability")]
    header = ["path", "label", "probability", "nearest", *labels, "error"]

    def cells(answered: Answered) -> list[str]:
        found = answered.prediction
        if found is None:
            return [plain_path(answered.image), *[""] * (len(header) - 2), answered.error]
        label = UNKNOWN if found.label is None else found.label
        others = [cell for name, value in best(found, top or 1)[1:] for cell in (name, f"{value:.6g}")]
        missing = [""] * (len(labels) - len(others))  # there are fewer labels
        first = [plain_path(answered.image), label, f"{found.probability:.6g}", found.nearest]
        return [*first, *others, *missing, answered.error]

    if str(path) == "-":
        emit(csv_line(header))
        yield lambda answered: emit(csv_line(cells(answered)))
        return
    check_free_file(path)
    with _named_at_the_end(path) as file:
        _write(file, path, csv_line(header))
        yield lambda answered: _write(file, path, csv_line(cells(answered)))


@contextmanager
def _named_at_the_end(path: Path) -> Iterator[IO[str]]:
    inside = False
    try:
        with draft_beside(path) as draft:
            with (draft / "table").open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
                inside = True
                yield file
                inside = False
                file.flush()
                os.fsync(file.fileno())
            rename_new(draft / "table", path)
    except OSError as error:
        if inside:  # not the table's
            raise
        raise _refused(path, error) from None


def _write(file: IO[str], path: Path, line: str) -> None:
    try:
        file.write(line + "\n")
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> SaveError:
    reason = (error.strerror or type(error).__name__).lower()
    return SaveError(f"could not write {path}: {reason}; nothing was left behind, so name another file")


def csv_line(cells: list[str]) -> str:
    """The cells as a line of CSV, without its end."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\r\n")  # so that cells with either character are quoted
    rows.writerow(map(decoded, cells))
    return out.getvalue().removesuffix("\r\n")


def plain_path(path: str) -> str:
    """The same path, starting so that no spreadsheet takes it for a formula."""
    return f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r")) else path
