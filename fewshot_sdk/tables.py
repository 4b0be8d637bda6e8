"""A CSV that gives pictures their labels."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from fewshot_sdk.errors import SupportError
from fewshot_sdk.files import read_bounded

_MAX_BYTES = 16 * 2**20
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """A picture's path, next to its table unless absolute, its label, and the line it stands on."""

    path: Path
    label: str
    line: int


def read_table(table: Path) -> list[Row]:
    """The rows of a UTF-8 CSV whose header names the columns `path` and `label`, in any order.

    Commas, semicolons or tabs part the columns, whichever the header has; other columns and empty
    lines are passed over. Raises SupportError, naming the row.
    """
    data = read_bounded(table, _MAX_BYTES, SupportError, "expected a CSV with the columns path and label")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SupportError(f"{table}, row {line}: it is not UTF-8 text; save the table as 'CSV UTF-8'") from None
    head = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in head), ",")  # spreadsheets write what the country writes
    cells = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(cells, [])]
        rows = [(cells.line_num, [cell.strip() for cell in row]) for row in cells]
    except csv.Error as error:
        raise SupportError(f"{table}, row {cells.line_num}: {error}; save the table as CSV again") from None
    if not {"path", "label"} <= set(header):
        found = ", ".join(header)[:100] or "none"
        raise SupportError(f"{table}, row 1: expected a header with the columns path and label, found {found}")
    found_rows, wrong = [], []
    for line, row in rows:
        if not any(row):
            continue
        named = dict(zip(header, row, strict=False))
        path, label = named.get("path", ""), named.get("label", "")
        if path and label and "\0" not in path and len(row) <= len(header):
            found_rows.append(Row(path=table.parent / path.replace("\\", "/"), label=label, line=line))
        else:
            found = delimiter.join(row)[:100]
            wrong.append(f"{table}, row {line}: expected a path and a label, found {found!r}; complete the row")
    if wrong:
        more = f" (and {len(wrong) - _SHOWN} more such rows)" if len(wrong) > _SHOWN else ""
        raise SupportError("\n".join(wrong[:_SHOWN]) + more)
    return found_rows
