"""What the kinds of folder have in common: a checked config.json, and files that must be there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from fewshot_sdk.config import BundleConfig
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.files import read_folder

C = TypeVar("C", bound=BundleConfig)


def open_bundle(
    folder: Path, kind: type[C], form: str, needed: Sequence[str], expected: str
) -> tuple[C, dict[str, bytes]]:
    """A folder's settings and its files, each checked against the manifest's hash.

    form: the `format` its config.json must name; expected: what to say should have been there.
    Raises BundleError, naming the file, if anything is missing, changed or of another kind.
    """
    files = read_folder(folder)
    for name in ("config.json", *needed):
        if name not in files:
            raise BundleError(f"{folder}: {name} is missing; expected {expected}")
    try:
        config = kind.from_json(files["config.json"])
    except ConfigError as error:
        raise BundleError(f"{folder / 'config.json'}: {error}") from None
    if config.format != form:
        raise BundleError(f"{folder}: expected the format {form!r}, found {config.format!r}")
    return config, files
