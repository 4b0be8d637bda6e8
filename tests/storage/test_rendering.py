from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from fewshot_sdk.storage.rendering import render


def test_a_value_that_a_template_needs_and_does_not_get_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="policy"):
        render("web/assets/bundle.html.j2", title="")


def test_values_in_html_are_escaped() -> None:
    page = render("web/assets/bundle.html.j2", title="<b>", labels=[], policy="", settings={})
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
