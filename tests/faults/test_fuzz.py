"""Damaged files: that the harness sees faults, short runs of it, and that it repeats; tried.toml records long ones."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from random import Random

import pytest

from tests.faults.entrances import KINDS
from tests.faults.fuzz import MEGABYTES, SECONDS, fuzz, input_of, judged
from tests.faults.mutation import mutated
from tests.faults.planted import LETTERS
from tests.faults.record import RECORD, fuzzed, on_purpose
from tests.render_reliability import PAGE

SEED, FEW = 5, 60  # of each kind, here without measuring time and memory
linux = pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc and Linux's timers")


@linux
def test_each_planted_fault_is_seen_and_what_comes_after_it_is_still_tried() -> None:
    found = fuzz("letters", 8, 0, table="tests.faults.planted")
    faults = [found.faults.get(i, "") for i in range(8)]
    expected = ["", "ValueError: this", "ended by SIGSEGV", "over 2 s", " MB, after", "BundleError with", "a good", ""]
    assert [want in fault for want, fault in zip(expected, faults, strict=True)] == [True] * 8, faults
    assert (found.tried, found.read) == (8, 2)


def test_an_input_repeats_by_its_seed_and_number() -> None:
    seeds = [letter * 50 for letter in LETTERS]
    first, second = ([mutated(seeds, Random(f"a {seed}")) for seed in range(200)] for _ in range(2))
    assert first == second
    assert len({*first}) > 150


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_read_or_refused_in_a_few_words(kind: str, tmp_path: Path) -> None:
    home = tmp_path / "seeds"
    home.mkdir()
    seeds, found = KINDS[kind].seeds(home), {}
    for number in range(FEW):
        place = tmp_path / str(number)
        place.mkdir()
        data = input_of(kind, seeds, SEED, number, KINDS[kind].only)
        found[number] = judged(KINDS[kind].enter, data, place)
    assert {number: fault for number, fault in found.items() if fault} == {}
    assert [found[number] for number in range(len(seeds))] == [None] * len(seeds)


def test_the_page_on_reliability_tells_what_was_tried_by_these_rules() -> None:
    record = tomllib.loads(RECORD.read_text())
    assert (record["seconds"], record["megabytes"]) == (SECONDS, MEGABYTES)
    assert [kind["name"] for kind in record["kinds"]] == [*KINDS]
    text = PAGE.read_text(encoding="utf-8")
    assert on_purpose() in text, "run `python -m tests.render_reliability`"
    assert fuzzed() in text, "run `python -m tests.render_reliability`"


@linux
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(3000)
def test_a_thousand_damaged_inputs_of_each_kind_are_read_or_refused_in_bounds(kind: str) -> None:
    assert fuzz(kind, 1000, SEED).faults == {}
