from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from fewshot_sdk.storage.rendering import encodable, render


def test_a_value_that_a_template_needs_and_does_not_get_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="policy"):
        render("web/assets/bundle.html.j2", title="")


def test_values_in_html_are_escaped() -> None:
    page = render("web/assets/bundle.html.j2", title="<b>", labels=[], policy="", settings={})
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"\xc3\xa9t\xc3\xa9.png", "été.png"),
        (b"\xe9t\xe9.png", "\\udce9t\\udce9.png"),
        ("犬 🐕".encode(), "犬 🐕"),
        (b"plain", "plain"),
    ],
)
def test_names_that_the_locale_could_not_decode_can_be_written(name: bytes, expected: str) -> None:
    in_c_locale = name.decode("ascii", "surrogateescape")
    assert encodable(in_c_locale) == expected
    assert encodable(f"été, {in_c_locale}") == f"été, {expected}"
