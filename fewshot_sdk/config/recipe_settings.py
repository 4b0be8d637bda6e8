"""Recipes from the tables of a file, and with single settings changed, by the dotted names of all settings."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import TypeAlias, TypeVar, get_args

from pydantic.fields import FieldInfo

from fewshot_sdk.config.backbones import BACKBONES, BackboneSettings
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.regression import Regression
from fewshot_sdk.config.settings import Config
from fewshot_sdk.errors import SHOWN, ConfigError
from fewshot_sdk.tables import row_of

AnyRecipe: TypeAlias = Recipe | Regression
R = TypeVar("R", bound=Recipe | Regression)
_QUOTED = ("[", "{", '"', "'")  # what begins with one of these is no bare word
_KIND = "backbone.kind"


def recipe_from(table: Mapping[str, object]) -> AnyRecipe:
    """The recipe that a file's tables describe, for pictures or for numbers; what is left out has its default.

    Raises ConfigError, with the dotted name of each wrong setting, and the nearest name for an unknown one.
    """
    numbers = "backbone" not in table and ("network" in table or isinstance(table.get("data"), str))
    return _recipe(Regression, table) if numbers else _recipe(Recipe, table)


def with_settings(recipe: R, changes: Sequence[str]) -> R:
    """The recipe with settings changed, each by NAME=VALUE, such as `inner.learning_rate=0.002`.

    VALUE is a TOML value, or a word without quotes; `none` removes what may be absent. The first change inside an
    absent group, such as `pretraining.epochs=5`, makes it with its defaults. Another `backbone.kind` begins with that
    kind's defaults, wherever it stands among the changes.
    Raises ConfigError as `recipe_from` does.
    """
    table = table_of(recipe)
    for name, value in sorted(map(_divided, changes), key=lambda change: change[0] != _KIND):
        _change(type(recipe), table, name, value)
    return _recipe(type(recipe), table)


def table_of(settings: Config) -> dict[str, object]:
    """Every setting by its name, those of a group as a table of their own; None for what is absent."""
    found = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {name: table_of(value) if isinstance(value, Config) else value for name, value in found.items()}


def flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """The settings in a table and the tables inside it, each by its dotted name."""
    found: dict[str, object] = {}
    for name, value in table.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def group_in(field: FieldInfo) -> type[Config] | None:
    """The kind of group that a field holds, perhaps absent; None for a single setting."""
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, Config)), None)


def _recipe(kind: type[R], table: Mapping[str, object]) -> R:
    if unknown := [*_unknown(kind, table)]:
        known = [*_names(kind, table)]
        raise ConfigError(_in_one([f"no setting {name}{_nearest(name, known)}" for name in unknown]))
    made = _made(kind, table, "")
    assert isinstance(made, kind)
    return made


def _made(kind: type[Config], table: Mapping[str, object], prefix: str) -> Config:
    """The settings in a table, its groups first. Raises ConfigError with dotted names."""
    values: dict[str, object] = {}
    for name, value in table.items():
        group = group_in(kind.model_fields[name])
        if group is None or value is None:
            values[name] = value
        elif isinstance(value, Mapping):
            values[name] = _made(_of_its_kind(group, value), value, f"{prefix}{name}.")
        else:
            raise ConfigError(f"{prefix}{name}: expected a group of settings, found {value!r:.100}")
    try:
        return kind.model_validate(values)
    except ConfigError as error:
        raise ConfigError(_dotted(str(error).removeprefix(f"{kind.__name__}: "), kind, prefix)) from None


def _dotted(message: str, kind: type[Config], prefix: str) -> str:
    """The message with the names of the kind's settings in full, or after the group's name if it names none."""
    names = "|".join(kind.model_fields)
    found, n = re.subn(rf"(^|; )(?=(?:{names})[.\d]*: )", rf"\g<1>{prefix}", message)
    return found if n or not prefix else f"{prefix.removesuffix('.')}: {message}"


def _of_its_kind(group: type[Config], table: Mapping[str, object]) -> type[Config]:
    """The group's type, which for a backbone its `kind` tells. Raises ConfigError, listing the kinds."""
    if group is not BackboneSettings:
        return group
    kind = table.get("kind")
    if not isinstance(kind, str):
        raise ConfigError(f"{_KIND}: expected one of {', '.join(BACKBONES)}, found {kind!r:.100}")
    return row_of(BACKBONES, kind, "backbone").settings


def _groups(
    kind: type[Config], table: Mapping[str, object]
) -> Iterator[tuple[str, type[Config], Mapping[str, object]]]:
    """The groups inside a kind, with their tables, empty for those that are absent; no backbone without its kind."""
    for name, field in kind.model_fields.items():
        inside = table.get(name)
        inside = inside if isinstance(inside, Mapping) else {}
        group = group_in(field)
        if group is not None and (group is not BackboneSettings or inside):
            yield name, _of_its_kind(group, inside), inside


def _unknown(kind: type[Config], table: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    yield from (f"{prefix}{name}"[:100] for name in table if name not in kind.model_fields)
    for name, group, inside in _groups(kind, table):
        yield from _unknown(group, inside, f"{prefix}{name}.")


def _names(kind: type[Config], table: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    yield from (f"{prefix}{name}" for name in kind.model_fields)
    for name, group, inside in _groups(kind, table):
        yield from _names(group, inside, f"{prefix}{name}.")


def _nearest(name: str, known: Sequence[str]) -> str:
    """What the name may mean: the nearest in its group, the same in other groups, all of its group, or the nearest."""
    group, dot, last = name.rpartition(".")
    beside = [one.removeprefix(group + dot) for one in known if dot and one.rpartition(".")[0] == group]
    near = [group + dot + one for one in difflib.get_close_matches(last, beside, 1)]
    near = near or [one for one in known if one.rpartition(".")[2] == last]
    if beside and not near:
        return f"; {group} has {', '.join(beside)}"
    near = near or difflib.get_close_matches(name, known, 1)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _in_one(complaints: Sequence[str]) -> str:
    more = f"; and {len(complaints) - SHOWN} more" if len(complaints) > SHOWN else ""
    return "; ".join(complaints[:SHOWN]) + more


def _divided(change: str) -> tuple[str, str]:
    name, equals, value = change.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"expected NAME=VALUE, such as inner.learning_rate=0.002, found {change[:100]!r}")
    return name.strip(), value.strip()


def _change(kind: type[Config], table: dict[str, object], name: str, text: str) -> None:
    """Set one setting in the tables of a recipe of this kind."""
    whole, here = (kind, table), table
    *groups, last = name.split(".")
    for part in groups:
        group = group_in(kind.model_fields[part]) if part in kind.model_fields else None
        if group is None:
            raise ConfigError(f"no setting {name[:100]}{_nearest(name, [*_names(*whole)])}")
        inside = here.get(part)
        here[part] = here = inside if isinstance(inside, dict) else {}
        kind = _of_its_kind(group, here)
    if last not in kind.model_fields:
        raise ConfigError(f"no setting {name[:100]}{_nearest(name, [*_names(*whole)])}")
    value = _value(name, text, kind.model_fields[last])
    if name == _KIND and value != here["kind"]:
        here.clear()
    here[last] = value


def _value(name: str, text: str, field: FieldInfo) -> object:
    """What a VALUE stands for: a TOML value, a bare word, or none."""
    if text == "none" and NoneType in get_args(field.annotation):
        return None
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        parsed = {}
    if parsed.keys() != {"value"}:
        if text.startswith(_QUOTED):
            raise ConfigError(f"{name}: expected a TOML value, or a word without quotes, found {text[:100]}")
        return text
    value: object = parsed["value"]
    return text if field.annotation is str and not isinstance(value, str) else value
