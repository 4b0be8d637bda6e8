"""Look-ups in the tables: a row by name, or an error that lists the names; and a row's `module:name` references."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import TypeVar

from fewshot_sdk.errors import ConfigError, FewshotError

Row = TypeVar("Row")


def row_of(table: Mapping[str, Row], name: str, what: str, error: type[FewshotError] = ConfigError) -> Row:
    """The row of this name. Raises `error`, listing the names and suggesting the nearest, if there is none.

    what: a row in words, such as `algorithm`; its plural ends in s.
    """
    if name in table:
        return table[name]
    raise error(f"no {what} {name!r}; the {what}s are {', '.join(table)}{did_you_mean(name, table)}")


def did_you_mean(name: str, known: Mapping[str, object]) -> str:
    """`; did you mean X?` with the nearest known name; empty if none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def referred(reference: str) -> object:
    """What `package.module:name` refers to, imported now, so that the tables themselves import nothing heavy."""
    module, _, name = reference.partition(":")
    found: object = getattr(import_module(module), name)
    return found
