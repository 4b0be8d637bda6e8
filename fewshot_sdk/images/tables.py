"""CSV tables: of pictures and their labels, and of numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.errors import SupportError, first_few
from fewshot_sdk.storage.files import read_bounded

# what people call the parts of a data set
PART_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_MAX_BYTES, _MAX_DATA_BYTES, _MAX_HEADER = 16 * 2**20, 256 * 2**20, 2**22
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table of pictures: the path, resolved against the table's folder, the label, and the line number.

    part: `train`, `val` or `test`; empty if the table has no such column, or was not asked for it.
    """

    path: Path
    label: str
    line: int
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A table as text: the header in lower case, and each row that is not empty with its line number."""

    header: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]
    delimiter: str


def read_cells(table: Path, columns: Sequence[str], advice: str = "", limit: int = _MAX_BYTES) -> Cells:
    """The cells of a UTF-8 CSV whose header contains these columns, in any order.

    The delimiter is a comma, a semicolon or a tab, whichever the header uses.
    Raises SupportError, naming the row; for another header the message ends in `advice`. limit: the table's bytes.
    """
    data = read_bounded(table, limit, SupportError, f"expected a CSV with {_named(columns)}")
    return _cells(data, table, columns, advice)


def header_of(table: Path) -> tuple[str, ...]:
    """The header of a UTF-8 CSV, in lower case, without reading the rest. Raises SupportError if it cannot be read."""
    try:
        with table.open("rb") as file:
            head = file.read(_MAX_HEADER)
    except OSError as refusal:
        raise SupportError(f"{table}: {(refusal.strerror or 'unreadable').lower()}; expected a CSV") from None
    first, _, rest = head.partition(b"\n")
    if first.removeprefix(b"\xef\xbb\xbf").lower().startswith(b"sep="):  # Excel's own first line
        first += b"\n" + rest.partition(b"\n")[0]
    try:
        return _cells(first, table, (), "").header
    except SupportError:  # a line break in quotes
        return read_cells(table, (), limit=_MAX_DATA_BYTES).header


def _cells(data: bytes, table: Path, columns: Sequence[str], advice: str) -> Cells:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SupportError(f"{table}, row {line}: it is not UTF-8 text; save the table as 'CSV UTF-8'") from None
    head, _, rest = text.partition("\n")
    if head.strip().lower() in ("sep=;", "sep=,", "sep=\t"):  # Excel's own first line
        text, skipped, head = rest, 1, rest.partition("\n")[0]
    else:
        skipped = 0
    delimiters = [mark for mark in ",;\t" if mark in head]  # spreadsheets choose one by locale
    names = {mark: {name.strip(' "\r').lower() for name in head.split(mark)} for mark in delimiters}
    delimiter = next((mark for mark in delimiters if set(columns) <= names[mark]), (delimiters or [","])[0])
    cells = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = tuple(name.strip().lower() for name in next(cells, []))
        rows = [(cells.line_num + skipped, [cell.strip() for cell in row]) for row in cells]
    except csv.Error as error:
        raise SupportError(f"{table}, row {cells.line_num + skipped}: {error}; save the table as CSV again") from None
    if not set(columns) <= set(header):
        found = ", ".join(header)[:100] or "none"
        raise SupportError(f"{table}, row 1: expected a header with {_named(columns)}, found {found}{advice}")
    return Cells(header=header, rows=tuple(row for row in rows if any(row[1])), delimiter=delimiter)


def _named(columns: Sequence[str]) -> str:
    return f"the column{'s' * (len(columns) > 1)} {' and '.join(columns)}" if columns else "columns of numbers"


def read_table(table: Path, parted: bool = False) -> list[Row]:
    """The rows of a table of pictures and labels; other columns and empty lines are ignored.

    parted: for a data set: the table may be larger, and have a column `part`.
    Raises SupportError, naming the row, for a row without path or label, or of no known part.
    """
    advice = "; for numbers name an initialization for them, such as --init sine, and for features none"
    cells = read_cells(table, ("path", "label"), advice, _MAX_DATA_BYTES if parted else _MAX_BYTES)
    parted = parted and "part" in cells.header
    found_rows, wrong = [], []
    for line, row in cells.rows:
        named = dict(zip(cells.header, row, strict=False))
        path, label = named.get("path", ""), named.get("label", "")
        part = named.get("part", "").lower() if parted else ""
        if parted and part not in PART_NAMES:
            wrong.append(f"{table}, row {line}: expected the part train, val or test, found {part[:60]!r}")
        elif path and label and "\0" not in path and len(row) <= len(cells.header):
            place = table.parent / path.replace("\\", "/")
            found_rows.append(Row(path=place, label=label, line=line, part=PART_NAMES[part] if parted else ""))
        else:
            found = cells.delimiter.join(row)[:100]
            wrong.append(f"{table}, row {line}: expected a path and a label, found {found!r}; complete the row")
    if wrong:
        raise SupportError(first_few(wrong, "rows"))
    return found_rows


def read_numbers(table: Path, columns: Sequence[str], least: int = 1) -> NDArray[np.float32]:
    """The numbers in these columns of a CSV, finite, (rows, columns); other columns and empty lines are ignored.

    A comma also counts as a decimal point unless it is the delimiter.
    Raises SupportError, naming row and column, for a cell that is not a number, and for fewer than `least` rows.
    """
    cells = read_cells(table, columns)
    for column in columns:
        if cells.header.count(column) > 1:
            raise SupportError(f"{table}, row 1: expected one column {column}, found {cells.header.count(column)}")
    numbers, wrong = numbers_in(cells, table, columns)
    if wrong:
        raise SupportError(first_few(wrong, "rows"))
    if len(numbers) < least:
        raise SupportError(f"{table}: expected {least} or more rows of numbers under the header, found {len(numbers)}")
    return numbers


def expected_number(text: str) -> str:
    """What was expected in place of a cell that `number` refuses, and found."""
    try:
        far = _LARGEST < abs(float(text)) < math.inf
    except ValueError:
        far = False
    wanted = "a number within 3.4e38 of 0" if far else "a number such as -1.5"
    return f"expected {wanted}, found {repr(text[:60]) if text else 'nothing'}"


def numbers_in(cells: Cells, table: Path, columns: Sequence[str]) -> tuple[NDArray[np.float32], list[str]]:
    """The numbers in these columns, (rows, columns), and what is wrong with the rows that do not have them."""
    places = [cells.header.index(column) for column in columns]
    numbers, wrong = np.empty((len(cells.rows), len(columns)), np.float32), []
    for i, (line, row) in enumerate(cells.rows):
        if len(row) != len(cells.header):
            wrong.append(f"{table}, row {line}: expected {len(cells.header)} columns as in row 1, found {len(row)}")
            continue
        for j, place in enumerate(places):
            try:
                numbers[i, j] = number(row[place] if cells.delimiter == "," else row[place].replace(",", "."))
            except ValueError:
                hint = "; in a table of pictures their column is path" if Path(row[place]).suffix[1:].isalpha() else ""
                wrong.append(f"{table}, row {line}, column {columns[j]}: {expected_number(row[place])}{hint}")
                break
    return numbers, wrong


def number(text: str) -> float:
    """The number that a text spells. Raises ValueError unless it is finite as float32."""
    found = float(text)
    if not abs(found) <= _LARGEST or "_" in text:
        raise ValueError(f"expected a finite number, found {text[:60]!r}")
    return found
