"""Renders the library's templates, HTML and Markdown."""

from __future__ import annotations

import html
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """The text of a template filled with `values`, without a newline at the end.

    template: its path inside the package; values in a name.html.j2 are escaped, in other templates only by the
    filters `markdown`, `code` and `line`. A name in the template that is missing from `values` is an error.
    """
    text = _environment().get_template(template).render(values)
    return encodable(text)


def decoded(text: str) -> str:
    """The text, in which bytes of file names that the locale could not decode are read as UTF-8 where they are that."""

    def as_utf8(found: re.Match[str]) -> str:
        try:
            return found[0].encode("ascii", "surrogateescape").decode("utf-8")
        except UnicodeDecodeError:
            return found[0]

    return re.sub("[\udc80-\udcff]+", as_utf8, text)


def encodable(text: str) -> str:
    """The text, `decoded`, and what is no text in it escaped, so that it can be written to any file."""
    return decoded(text).encode("utf-8", "backslashreplace").decode("utf-8")


def line(text: str) -> str:
    """The text on one line, without control characters."""
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text).strip()


def markdown(text: str) -> str:
    """Markdown that shows the text literally, on one line: none of it is markup or HTML, or ends a table cell."""
    escaped = re.sub(r"[\\`*_\[\]|~$:@]|(?<!\S)#|(?<=www)\.", r"\\\g<0>", html.escape(line(text), quote=False))
    return re.sub(r"^(\d*)([-+.)])(?=[-\s]|$)", r"\1\\\2", escaped)  # would start a list, or be a horizontal rule


def code(text: str) -> str:
    """A Markdown code span with the text, on one line."""
    content = line(text)
    fence = "`" * (max(map(len, re.findall("`+", content)), default=0) + 1)
    return f"{fence} {content} {fence}" if content.startswith("`") or content.endswith("`") else fence + content + fence


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here: reading and predicting need no jinja2

    environment = Environment(
        loader=PackageLoader("fewshot_sdk", ""),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"markdown": markdown, "code": code, "line": line}
    return environment
