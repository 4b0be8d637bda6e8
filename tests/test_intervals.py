"""Means and their 95 % intervals."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_sdk.intervals import interval, interval_of_few, standard_error


def test_many_values_have_1_96_standard_errors() -> None:
    values = np.random.default_rng(0).normal(3, 2, 1000)
    mean, half = interval(values)
    assert mean == values.mean()
    assert half == pytest.approx(1.96 * (((values - mean) ** 2).sum() / 999 / 1000) ** 0.5)
    assert half == 1.96 * standard_error(values)


def test_the_interval_holds_the_true_mean_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    for n, rule in ((3, interval_of_few), (200, interval)):
        found = [rule(rng.normal(0, 1, n).tolist()) for _ in range(2000)]
        assert np.mean([abs(mean) <= half for mean, half in found]) == pytest.approx(0.95, abs=0.015)


def test_one_value_has_no_interval() -> None:
    assert interval([0.5]) == interval_of_few([0.5]) == (0.5, 0.0)


def test_a_few_values_have_students_t() -> None:
    assert interval_of_few([1.0, 2.0])[1] == pytest.approx(12.706 / 2, rel=1e-3)
    assert interval_of_few([-1.0, 1.0] * 15)[1] == pytest.approx(2.045 * (30 / 29 / 30) ** 0.5, rel=1e-3)
