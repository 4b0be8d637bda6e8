"""The table of formats that a classifier can be exported to, by the ending of the file's name.

To add one, add a row here and, beside this module, one with the function it refers to, which is imported when used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.export.classifier import Export, ExportSettings
from fewshot_sdk.tables import referred

Exporter: TypeAlias = Callable[[Classifier, Path, ExportSettings], Export]


@dataclass(frozen=True, kw_only=True)
class FormatRow:
    """One format. title: its name; write: its `Exporter`, as `module:name`.

    An exporter keeps a file only if it agrees with PyTorch; `checks.check_parity` checks any function from pictures to
    probabilities.
    """

    title: str
    write: str


FORMATS: dict[str, FormatRow] = {
    ".onnx": FormatRow(title="ONNX", write="fewshot_sdk.export.classifier:write_onnx"),
}


def export(classifier: Classifier, path: str | Path, settings: ExportSettings | None = None) -> Export:
    """Write a classifier in the format that the file's name ends in; ONNX for an ending that is not in the table.

    Raises ParityError if the file disagrees with PyTorch, and whatever else the format's exporter raises.
    """
    path = Path(path)
    row = FORMATS.get(path.suffix.lower(), FORMATS[".onnx"])
    write = cast("Exporter", referred(row.write))
    return write(classifier, path, settings or ExportSettings())
