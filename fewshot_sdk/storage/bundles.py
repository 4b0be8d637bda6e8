"""What the kinds of folder have in common: a checked config.json, needed files; and a folder as one file."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from fewshot_sdk.config.records import BundleConfig
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.storage.files import MANIFEST, MAX_FILE_BYTES, checked, manifest_of, overwrite_file, read_bounded

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


def write_archive(path: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files and their manifest as one uncompressed zip, durably, in place of an older one.

    Raises SaveError if the disk refuses; the older one is then still there.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in {**contents, MANIFEST: manifest_of(contents)}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return overwrite_file(path, data.getvalue())


def read_archive(path: Path) -> dict[str, bytes]:
    """The files of an archive, each checked against its hash.

    Raises BundleError, naming the file, if it is missing, no archive, damaged or packed by another program.
    """
    data = read_bounded(path, MAX_FILE_BYTES, advice="expected a checkpoint written by `fewshot meta-train`")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise BundleError(f"{path} is compressed; it was not written by `fewshot`")
            return checked(archive.read(MANIFEST), archive.read, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, OSError) as error:
        raise BundleError(f"{path} is not a checkpoint, or is damaged ({error}); remove it and start again") from None
