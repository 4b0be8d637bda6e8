"""The library's templates, for HTML and for Markdown, filled in."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """The text of a template with its values, without a line end after the last line.

    template: its path inside the package; values in a name.html.j2 are escaped, in others they are as given.
    A name that the template has and `values` lacks is an error.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here: reading and predicting take no jinja2

    return Environment(
        loader=PackageLoader("fewshot_sdk", ""),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
