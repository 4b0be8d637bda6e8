"""A recipe as a TOML file, with a comment on each setting, and the JSON Schema of such files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from textwrap import shorten, wrap
from typing import Any, Literal

import tomlkit
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from fewshot_sdk.config.backbones import BACKBONES, BackboneSettings
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.recipe_settings import AnyRecipe, group_in
from fewshot_sdk.config.regression import Regression
from fewshot_sdk.config.settings import Config

_WIDTH = 100
_LONGEST = 200  # a list of classes may have any length
_MANY = 100_000_000  # a limit that high need not be told
_HEAD = """\
# A recipe for `fewshot meta-train --recipe FILE --output DIR`. There, --set NAME=VALUE changes one setting; its name
# begins with that of its table, such as inner.learning_rate. A line such as #name = value is a setting that is absent.
"""


@lru_cache(maxsize=16)  # a checkpoint has it too, perhaps after each step
def recipe_text(recipe: AnyRecipe) -> str:
    """The recipe in TOML, every setting after a comment with its description, its range and its default."""
    return _HEAD + "\n".join(["", *_inside(recipe, "")]) + "\n"


def recipe_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of recipes, for pictures or for numbers."""
    both: list[tuple[type[Config], Literal["validation"]]] = [(Recipe, "validation"), (Regression, "validation")]
    _, found = models_json_schema(both, title="Recipe of fewshot meta-train")
    kinds = [{"$ref": f"#/$defs/{kind.__name__}"} for kind, _ in both]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "anyOf": kinds, **found}


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """What differs between settings by their dotted names, as a file writes them: `meta.n_way was 5, now 20`."""
    return [
        f"{name} was {shorten(_in_words(old.get(name)), _LONGEST)}, now {shorten(_in_words(new.get(name)), _LONGEST)}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _in_words(value: object) -> str:
    """A setting's value as --set takes it: in TOML, but a word without quotes, and `none` for one that is absent."""
    return "none" if value is None else value if isinstance(value, str) and value else _in_toml(value)


def _in_toml(value: object) -> str:
    return str(tomlkit.item(list(value) if isinstance(value, tuple) else value).as_string())


def _inside(settings: Config, prefix: str) -> Iterator[str]:
    """The lines of a table: its settings, then the tables inside it, whose names begin with `prefix`."""
    kind = type(settings)
    groups = {name: group for name, info in kind.model_fields.items() if (group := group_in(info)) is not None}
    for name in kind.model_fields:
        if name not in groups:
            yield from _setting(kind, name, getattr(settings, name))
    for name, group in groups.items():
        yield from _table(kind.model_fields[name], getattr(settings, name), group, f"{prefix}{name}")


def _setting(kind: type[Config], name: str, value: object, hidden: str = "") -> Iterator[str]:
    """The comment on a setting, and its value, or, commented out, a value that it might have."""
    info = kind.model_fields[name]
    yield from _comment(f"{info.description or ''} {_range(kind.model_json_schema()['properties'][name])}")
    if value is None:
        value, hidden = next(iter(info.examples or ()), None), "#"
    yield f"{hidden}{name} = {_in_toml(value)}"


def _table(info: FieldInfo, value: Config | None, group: type[Config], name: str) -> Iterator[str]:
    """A table of settings, commented out if it is absent."""
    kinds = f"Its kind is one of {', '.join(BACKBONES)}." if group is BackboneSettings else ""
    yield ""
    yield from _comment(f"{info.description or ''} {kinds}")
    if value is not None:
        yield f"[{name}]"
        yield from _inside(value, f"{name}.")
        return
    yield f"#[{name}]"
    for field, inner in group.model_fields.items():
        example = inner.examples[0] if inner.examples else inner.default
        yield from _setting(group, field, example, "#")


def _comment(text: str) -> list[str]:
    return wrap(text.strip(), _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _range(schema: Mapping[str, Any]) -> str:
    """The values that a setting may have, and its default, as a sentence; empty if there is nothing to tell."""
    allowed, default = _allowed(schema), schema.get("default")
    if "default" in schema and "const" not in schema:
        allowed += f"{'; ' if allowed else ''}default {_in_words(default)}"
    return f"{allowed[:1].upper()}{allowed[1:]}." if allowed else ""


def _allowed(schema: Mapping[str, Any]) -> str:
    """The values that a schema allows, in words."""
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "anyOf" in schema:
        return ", or ".join("none" if one.get("type") == "null" else _allowed(one) for one in schema["anyOf"])
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "integer":
            return f"an integer{_between(schema)}"
        case "number":
            return f"a number{_between(schema)}"
        case "string" if "const" not in schema:
            return "text"
        case "array":
            length = f" of {schema['minItems']} to {schema['maxItems']}" if "maxItems" in schema else ""
            return f"a list{length}, each {_allowed(schema['items'])}"
    return ""


def _between(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum", _MANY), schema.get("exclusiveMaximum")
    if above is not None:
        return f" above {above}"
    if low is None:
        return ""
    if below is not None:
        return f" from {low}, below {below}"
    return f" from {low} to {high}" if high < _MANY else f" of {low} or more"
