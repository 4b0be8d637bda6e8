"""The library's templates, for HTML and for Markdown, filled in."""

from __future__ import annotations

import html
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """The text of a template with its values, without a line end after the last line.

    template: its path inside the package; values in a name.html.j2 are escaped, in others they are as given, but for
    the filters `markdown`, `code` and `line`. A name that the template has and `values` lacks is an error.
    """
    return _environment().get_template(template).render(values)


def line(text: str) -> str:
    """Any text on one line, without control characters."""
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text).strip()


def markdown(text: str) -> str:
    """Markdown that shows any text as it is, on one line: nothing in it is markup or HTML, or ends a table's cell."""
    escaped = re.sub(r"[\\`*_\[\]|~$:@]|(?<!\S)#|(?<=www)\.", r"\\\g<0>", html.escape(line(text), quote=False))
    return re.sub(r"^(\d*)([-+.)])(?=[-\s]|$)", r"\1\\\2", escaped)  # would begin a list, or be a rule


def code(text: str) -> str:
    """A code span of any text, on one line."""
    shown = line(text)
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    return f"{fence} {shown} {fence}" if shown.startswith("`") or shown.endswith("`") else fence + shown + fence


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here: reading and predicting take no jinja2

    environment = Environment(
        loader=PackageLoader("fewshot_sdk", ""),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"markdown": markdown, "code": code, "line": line}
    return environment
