"""The table of folders in CONTRIBUTING.md ("Where things live"), which the architecture test holds the code to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
_NAME = re.compile(r"`([\w/]+)`")
_ROW = re.compile(r"^\| `(fewshot_sdk(?:/(\w+))?)/`(\*?) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A row. name: empty for the library's own folder; light: nothing in it leads to PyTorch or onnx.

    but: modules of a light folder that do, named behind the star.
    """

    name: str
    light: bool
    purpose: str
    holds: tuple[str, ...]


def folders() -> list[Folder]:
    """The rows, in their order: a folder imports only those above it."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [
        Folder(name=row[2] or "", light=bool(row[3]), purpose=row[4].strip(), holds=tuple(_NAME.findall(row[5])))
        for row in _ROW.finditer(text)
    ]
