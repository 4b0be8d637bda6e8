from __future__ import annotations

import pytest

from fewshot_sdk.errors import LONGEST, BundleError, FewshotError, SupportError, first_few


@pytest.mark.parametrize("kind", FewshotError.__subclasses__()[:3])
def test_a_message_is_one_line_whatever_text_of_a_file_it_repeats(kind: type[FewshotError]) -> None:
    assert str(kind("b\n c\r\nd.json: make it again")) == r"b\n c\r\nd.json: make it again"


def test_a_long_text_is_cut_in_its_middle_and_the_end_says_what_to_do() -> None:
    said = str(BundleError(f"a.json: found {'b' * 100_000}; make it again"))
    assert len(said) == LONGEST
    assert said.startswith("a.json: found bbb")
    assert said.endswith("bbb; make it again")


def test_a_support_set_has_a_line_for_each_thing_that_is_wrong() -> None:
    error = SupportError("one class", first_few(["row 1", "row 2"], "rows"))
    assert error.messages == ("one class", "row 1\nrow 2")
    assert str(error) == "one class\nrow 1\nrow 2"
