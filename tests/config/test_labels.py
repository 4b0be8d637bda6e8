from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from fewshot_sdk.config.labels import LONGEST, Labels, wrong_label


@pytest.mark.parametrize("label", ["cat", "été", "猫", "a/b", "<b>", "=1+1", "x" * LONGEST, "עברית\u200f"])
def test_any_text_that_can_be_shown_names_a_class(label: str) -> None:
    assert wrong_label(label) is None


@pytest.mark.parametrize(
    ("label", "wrong"),
    [
        ("", "not empty"),
        (" ", "not empty"),
        ("a\nb", "control characters"),
        ("\x1b[31mcat", "control characters"),
        ("\udce9", "valid UTF-8"),
        ("cat\u202egnp", "change the order"),
        ("x" * (LONGEST + 1), "at most 200 characters"),
    ],
)
def test_what_a_reader_could_not_see_or_would_see_wrong_does_not(label: str, wrong: str) -> None:
    assert wrong in (wrong_label(label) or "")
    with pytest.raises(ValidationError, match=wrong):
        TypeAdapter(Labels).validate_python(("dog", label))


def test_there_is_a_class() -> None:
    with pytest.raises(ValidationError, match="the name of each class, found none"):
        TypeAdapter(Labels).validate_python(())


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="'dog' occurs 2 times"):
        TypeAdapter(Labels).validate_python(("dog", "cat", "dog"))
