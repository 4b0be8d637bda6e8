"""Recipes read from files: a TOML file, or the config.json of an initialization."""

from __future__ import annotations

import codecs
import re
import tomllib
from pathlib import Path

from fewshot_sdk.config.recipe_settings import AnyRecipe, recipe_from
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.bundles import settings_of_any
from fewshot_sdk.storage.files import read_bounded
from fewshot_sdk.storage.repositories import open_named

MAX_PARTS, _PART = 50, re.compile(r"\s*[\"']?[\w-]*[\"']?\s*")
MAX_RECIPE_BYTES = 4 * 2**20  # one's own data may have many classes, each with its name


def read_recipe(path: str | Path) -> AnyRecipe:
    """The recipe in a TOML file, such as `recipe_text` gives, for pictures or for numbers.

    Raises ConfigError, naming the file, and the line and column or the setting that is wrong.
    """
    path = Path(path)
    advice = "expected a recipe, such as `fewshot recipe PRESET` prints"
    data = read_bounded(path, MAX_RECIPE_BYTES, error=ConfigError, advice=advice)
    text = _decoded(data, path)
    _check_keys(text, path)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError tells line and column
        raise ConfigError(f"{path}: not TOML: {str(error)[:1].lower()}{str(error)[1:200]}") from None
    try:
        return recipe_from(table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def recipe_of(name: str | Path) -> AnyRecipe:
    """The recipe in the config.json of an initialization: a bundled one, a folder, or one on the Hub.

    Raises BundleError, or HubError if the Hub refuses.
    """
    opened = open_named(name)
    return settings_of_any(opened.files, opened.folder).recipe


def _check_keys(text: str, path: Path) -> None:
    """Raises ConfigError for a key of many parts, such as a.b.c: the parser's time grows with their number squared."""
    parts = 0
    for piece in text.split("."):
        parts = parts + 1 if len(piece) < 100 and _PART.fullmatch(piece) else 0
        if parts > MAX_PARTS:
            raise ConfigError(
                f"{path}: a key has more than {MAX_PARTS} parts between dots; a recipe's have at most three"
            )


def _decoded(data: bytes, path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark, as `>` writes it in Windows PowerShell."""
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].rpartition(b"\n")[2].decode(errors="replace")
        line, column = data.count(b"\n", 0, error.start) + 1, len(before) + 1
        raise ConfigError(f"{path}: not UTF-8 text (at line {line}, column {column})") from None
