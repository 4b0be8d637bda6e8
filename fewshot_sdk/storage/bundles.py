"""The kinds of folder, each with a checked config.json and its required files; and a folder as a single file."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fewshot_sdk.config.inspection import InspectorConfig
from fewshot_sdk.config.records import BundleConfig, ClassifierConfig, DeltaConfig, InitializationConfig
from fewshot_sdk.config.regression import RegressionConfig, RegressorConfig
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.storage.files import MANIFEST, MAX_FILE_BYTES, checked, manifest_of, overwrite_file, read_bounded

WEIGHTS = ("model.safetensors", "inner_state.safetensors")  # of an initialization
_EXPECTED = "expected a checkpoint written by `fewshot meta-train`"
C = TypeVar("C", bound=BundleConfig)


@dataclass(frozen=True, kw_only=True)
class Format(Generic[C]):
    """One kind of folder.

    name: its name in config.json; config: the type of its config.json; needed: the other files that must be there;
    expected: describes such a folder in messages when something else was found; hint: added to the message when this
    kind was found and another was expected.
    """

    name: str
    config: type[C]
    needed: tuple[str, ...]
    expected: str
    hint: str = ""


INITIALIZATION = Format(
    name="fewshot-sdk initialization 1",
    config=InitializationConfig,
    needed=WEIGHTS,
    expected="an initialization, such as `omniglot`",
)
REGRESSION = Format(
    name="fewshot-sdk regression 1",
    config=RegressionConfig,
    needed=WEIGHTS,
    expected="an initialization for numbers, such as `sine`",
    hint=", which is for numbers: adapt it to a CSV of them",
)
CLASSIFIER = Format(
    name="fewshot-sdk classifier 1",
    config=ClassifierConfig,
    needed=("model.safetensors", "support.safetensors"),
    expected="a folder made by `fewshot adapt`",
)
DELTA = Format(
    name="fewshot-sdk delta 1",
    config=DeltaConfig,
    needed=("delta.safetensors", "support.safetensors"),
    expected="a folder made by `fewshot adapt --delta`",
)
REGRESSOR = Format(
    name="fewshot-sdk regressor 1",
    config=RegressorConfig,
    needed=("model.safetensors", "points.safetensors"),
    expected="a folder made by `fewshot adapt` from a CSV of numbers",
    hint=", which predicts numbers, and takes a CSV of them",
)
INSPECTOR = Format(
    name="fewshot-sdk inspector 1",
    config=InspectorConfig,
    needed=("model.safetensors", "memory.safetensors", "pictures.safetensors"),
    expected="a folder made by `fewshot adapt` from good pictures",
    hint=", which knows good pictures alone, and no classes",
)
FORMATS: dict[str, Format[Any]] = {
    form.name: form for form in (INITIALIZATION, REGRESSION, CLASSIFIER, DELTA, REGRESSOR, INSPECTOR)
}


def settings_of(files: Mapping[str, bytes], where: Path, form: Format[C]) -> C:
    """The settings in a folder's config.json, after a check that all files of its format are there.

    Raises BundleError, naming the file inside `where`, if one is missing, or the folder is of another kind.
    """
    for name in ("config.json", *form.needed):
        if name not in files:
            other = FORMATS.get(format_of(files.get("config.json", b"")) or "")
            if other is not None and other.hint:  # it tells more than what is missing
                _check_format(other.name, form, where)
            raise BundleError(f"{where}: {name} is missing; expected {form.expected}")
    try:
        config = form.config.from_json(files["config.json"])
    except ConfigError as error:
        _check_format(format_of(files["config.json"]), form, where)
        raise BundleError(f"{where / 'config.json'}: {error}") from None
    _check_format(config.format, form, where)
    return config


def settings_of_any(files: Mapping[str, bytes], where: Path) -> InitializationConfig | RegressionConfig:
    """The settings of an initialization's folder, for pictures or for numbers. Raises BundleError as `settings_of`."""
    if format_of(files.get("config.json", b"")) == REGRESSION.name:
        return settings_of(files, where, REGRESSION)
    return settings_of(files, where, INITIALIZATION)


def _check_format(found: str | None, form: Format[C], where: Path) -> None:
    if found is not None and found != form.name:
        hint = FORMATS[found].hint if found in FORMATS else ""
        raise BundleError(f"{where}: expected the format {form.name!r}, found {found[:60]!r}{hint}")


def format_of(config: bytes | str) -> str | None:
    """The format that a config.json names, even if the rest of it is invalid; None if it names none."""
    try:
        found = json.loads(config)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def write_archive(path: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files and their manifest as one uncompressed zip, durably, over an older one.

    Raises SaveError if the disk refuses; the older one is then unchanged.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in {**contents, MANIFEST: manifest_of(contents)}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return overwrite_file(path, data.getvalue())


def read_archive(path: Path) -> dict[str, bytes]:
    """The files of an archive, each checked against its hash.

    Raises BundleError, naming the file, if it is missing, not an archive, damaged or written by another program.
    """
    return _read(path, io.BytesIO(read_bounded(path, MAX_FILE_BYTES, advice=_EXPECTED)), None)


def read_members(path: Path, only: Collection[str]) -> dict[str, bytes]:
    """Those of an archive's files that have these names, without reading the others. Raises as `read_archive` does."""
    if not path.is_file():
        raise BundleError(f"{path}: no such file; {_EXPECTED}")
    return _read(path, path, only)


def _read(path: Path, source: Path | io.BytesIO, only: Collection[str] | None) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(source) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise BundleError(f"{path} is compressed; it was not written by `fewshot`")
            return checked(archive.read(MANIFEST), archive.read, path, only)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, RuntimeError, OSError) as error:
        raise BundleError(f"{path} is not a checkpoint, or is damaged ({error}); remove it and start again") from None
