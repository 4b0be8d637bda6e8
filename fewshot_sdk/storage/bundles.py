"""What the kinds of folder have in common: a checked config.json, and files that must be there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from fewshot_sdk.config.records import BundleConfig
from fewshot_sdk.errors import BundleError, ConfigError

INITIALIZATION = "fewshot-sdk initialization 1"
_HINTS = {
    "fewshot-sdk regression 1": ", which is for numbers: adapt it to a CSV of them",
    "fewshot-sdk regressor 1": ", which predicts numbers, and takes a CSV of them",
}
WEIGHTS = ("model.safetensors", "inner_state.safetensors")  # of an initialization
C = TypeVar("C", bound=BundleConfig)


def open_bundle(
    files: dict[str, bytes], where: Path, kind: type[C], form: str, needed: Sequence[str], expected: str
) -> C:
    """The settings of a folder's files, once everything that is needed is there.

    form: the `format` its config.json must name; expected: what to say should have been there.
    Raises BundleError, naming the file inside `where`, if anything is missing or of another kind.
    """
    for name in ("config.json", *needed):
        if name not in files:
            raise BundleError(f"{where}: {name} is missing; expected {expected}")
    try:
        config = kind.from_json(files["config.json"])
    except ConfigError as error:
        _check_format(format_of(files["config.json"]), form, where)
        raise BundleError(f"{where / 'config.json'}: {error}") from None
    _check_format(config.format, form, where)
    return config


def _check_format(found: object, form: str, where: Path) -> None:
    if isinstance(found, str) and found != form:
        raise BundleError(f"{where}: expected the format {form!r}, found {found[:60]!r}{_HINTS.get(found, '')}")


def format_of(config: bytes | str) -> object:
    """The format that settings name which cannot be read otherwise; None if they name none."""
    try:
        return json.loads(config)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
