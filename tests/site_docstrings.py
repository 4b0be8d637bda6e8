"""An extension of griffe, which reads docstrings for the site: lists of parameters, and what each setting is."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from griffe import Docstring, Extension


class Descriptions(Extension):
    """Makes `name: ...` in the docstrings of functions and classes an item of a list, and describes settings."""

    def on_function(self, *, func: Any, **_: Any) -> None:
        """Called for each function."""
        _change(func, [parameter.name for parameter in func.parameters])

    def on_class_members(self, *, cls: Any, **_: Any) -> None:
        """Called for each class, whose settings have their texts in their fields."""
        _change(cls, [*cls.attributes, *(parameter.name for parameter in cls.parameters)])
        if cls.module.path.startswith("fewshot_sdk.config"):
            fields = getattr(getattr(import_module(cls.module.path), cls.name), "model_fields", {})
            for name in cls.attributes.keys() & fields.keys():
                setting, field = cls.attributes[name], fields[name]
                setting.docstring = Docstring(field.description or "", parent=setting)
                setting.value = None if field.is_required() or field.default_factory else repr(field.default)
                setting.labels.clear()


def listed(text: str, names: list[str]) -> str:
    """The docstring with a list item for each `name: ...` at a line's or a sentence's beginning, and for `Raises`."""
    if not names:
        return text
    found = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    said = rf"(?:(?<=[.;)] )|(?<=\n)|^)({found})((?:,\s+(?:{found}))*): "
    changed, count = re.subn(said, r"\n\n* **\1**\2: ", text)
    return re.sub(r"(?:(?<=\. )|(?<=\n))Raises (?=[A-Z])", "\n\n* **Raises** ", changed) if count else text


def _change(thing: Any, names: list[str]) -> None:
    if thing.docstring:
        thing.docstring.value = listed(thing.docstring.value, names)
