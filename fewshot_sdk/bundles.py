"""What the kinds of folder have in common: a checked config.json, and files that must be there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.records import BundleConfig

INITIALIZATION = "fewshot-sdk initialization 1"
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
        raise BundleError(f"{where / 'config.json'}: {error}") from None
    if config.format != form:
        raise BundleError(f"{where}: expected the format {form!r}, found {config.format!r}")
    return config
