from __future__ import annotations

import pytest

from fewshot_sdk.data.division import described, divided, shares_of
from fewshot_sdk.errors import ConfigError

NAMES = [f"class{i}" for i in range(20)]


def test_every_class_is_in_exactly_one_part() -> None:
    for n in range(1, 30):
        names = [f"c{i}" for i in range(n)]
        parts = divided(names, "0.7/0.15/0.15", 0)
        assert sorted(sum(parts.values(), ())) == sorted(names)
        assert parts["train"]


@pytest.mark.parametrize(
    ("split", "n", "sizes"),
    [
        ("0.7/0.15/0.15", 20, (14, 3, 3)),
        ("0.7/0.15/0.15", 10, (7, 1, 2)),  # a tie between validation and testing goes to testing
        ("0.8/0.2", 10, (8, 0, 2)),
        ("1/0/0", 7, (7, 0, 0)),
        ("0.1/0.1/0.8", 2, (1, 0, 1)),  # training has one at least
        (".5/.25/.25", 4, (2, 1, 1)),
    ],
)
def test_parts_have_their_shares_by_the_largest_remainder(split: str, n: int, sizes: tuple[int, ...]) -> None:
    parts = divided(NAMES[:n], split, 0)
    assert (len(parts["train"]), len(parts["val"]), len(parts["test"])) == sizes


def test_the_division_depends_on_the_seed_and_not_on_the_order_of_names() -> None:
    first = divided(NAMES, "0.7/0.15/0.15", 0)
    assert divided(NAMES[::-1], "0.7/0.15/0.15", 0) == first
    assert divided(NAMES, "0.7/0.15/0.15", 1) != first


def test_the_division_is_the_same_on_every_machine() -> None:
    assert divided(NAMES, "0.8/0.2", 0)["test"] == ("class1", "class12", "class3", "class7")


def test_it_is_recorded_with_its_seed() -> None:
    assert described("0.80/0.2", 3) == "0.8/0/0.2, seed 3"


@pytest.mark.parametrize(
    "split", ["", "1", "0.7/0.2", "0/0.5/0.5", "0.5/0.5/0.5", "0.5/-0.5/1", "a/b", "0.2/0.2/0.2/0.4", "1e9/0", "nan/1"]
)
def test_anything_but_shares_that_sum_to_1_is_refused(split: str) -> None:
    with pytest.raises(ConfigError, match=r"--split: expected shares .* that sum to 1, such as 0\.7/0\.15/0\.15"):
        shares_of(split)
