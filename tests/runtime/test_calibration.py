from __future__ import annotations

import numpy as np
import pytest

from fewshot_sdk.intervals import most
from fewshot_sdk.runtime.calibration import (
    Floats,
    Ints,
    auroc,
    expected_calibration_error,
    fit_temperature,
    reject_limit,
    softmax,
)


@pytest.fixture
def calibrated() -> tuple[Floats, Ints]:
    """20,000 logits for 4 labels, whose softmax is exactly the probability that each label is right; and labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 2
    chances = softmax(logits).cumsum(1)
    return logits, (rng.random((20_000, 1)) > chances[:, :3]).sum(1)


@pytest.mark.parametrize("sharpened", [0.2, 1.0, 5.0])
def test_the_temperature_undoes_a_scaling_of_the_logits(calibrated: tuple[Floats, Ints], sharpened: float) -> None:
    logits, targets = calibrated
    found = fit_temperature(sharpened * logits, targets, len(targets))
    assert found == pytest.approx(sharpened, rel=0.05)
    assert expected_calibration_error(softmax(sharpened * logits, found), targets) < 0.02
    if sharpened != 1:
        assert expected_calibration_error(softmax(sharpened * logits), targets) > 0.1


@pytest.mark.parametrize("n_pictures", [1, 25, 20_000])
def test_no_other_temperature_is_more_credible(calibrated: tuple[Floats, Ints], n_pictures: int) -> None:
    logits, targets = calibrated

    def cost(temperature: float) -> float:
        chances = softmax(3 * logits, temperature)[np.arange(len(targets)), targets]
        return float(-n_pictures * np.log(chances).mean() + 1 / temperature + np.log(temperature))

    best = fit_temperature(3 * logits, targets, n_pictures)
    assert cost(best) < min(cost(best * 0.9), cost(best * 1.1))
    assert 1 < best < 3.1


def test_few_pictures_that_are_all_right_make_nobody_certain() -> None:
    logits, targets = np.eye(5).repeat(5, 0), np.arange(5).repeat(5)
    confidence = softmax(logits, fit_temperature(logits, targets, 25)).max(1)
    assert (confidence > 0.9).all()
    assert (confidence < 0.98).all()


def test_logits_that_say_nothing_keep_temperature_one() -> None:
    assert fit_temperature(np.zeros((6, 3)), np.arange(6) % 3, 6) == pytest.approx(1)


SHAPES = {
    "normal": lambda rng, size: rng.normal(size=size),
    "uniform": lambda rng, size: rng.random(size),
    "skewed to low scores": lambda rng, size: -rng.exponential(size=size),
    "some much lower": lambda rng, size: np.where(rng.random(size) < 0.2, 0, 6) + rng.normal(size=size),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rate", [0.05, 0.1])
@pytest.mark.parametrize("n", [4, 8, 15, 19, 25, 100])
def test_over_many_draws_no_more_known_pictures_are_lost_than_asked(n: int, rate: float, shape: str) -> None:
    rng = np.random.default_rng(1)
    lost = []
    for held_out, later in zip(SHAPES[shape](rng, (1500, n)), SHAPES[shape](rng, (1500, 400)), strict=True):
        limit = reject_limit(held_out, rate)
        lost.append(0 if limit is None else (later < limit).mean())
    assert np.mean(lost) <= rate + 3 * np.std(lost) / 1500**0.5


@pytest.mark.parametrize(("rate", "rank"), [(0.05, 5), (0.29, 29), (0.99, 99)])
def test_with_enough_pictures_the_limit_is_as_high_as_the_rate_allows(rate: float, rank: int) -> None:
    scores = np.random.default_rng(1).permutation(np.linspace(-2, 7, 99))
    assert reject_limit(scores, rate) == pytest.approx(np.sort(scores)[rank - 1])


def test_nothing_is_promised_from_a_few_pictures_or_for_a_rate_of_zero() -> None:
    assert reject_limit(np.arange(100.0), 0) is None
    assert reject_limit(np.arange(4.0), 0.05) is None
    assert reject_limit(np.empty(0), 0.05) is None


def test_a_limit_does_not_saturate_where_classes_are_easy_to_tell_apart() -> None:
    scores = 40 + np.random.default_rng(2).random(50)  # probabilities of 1 in float32
    limit = reject_limit(scores, 0.05)
    assert limit is not None
    assert (scores < limit).sum() == 2


def test_what_is_lost_at_most_is_bounded_by_the_number_of_pictures() -> None:
    assert most(0, 4) == pytest.approx(1 - 0.05**0.25)
    assert most(4, 4) == 1
    assert most(1, 20) > most(5, 100) > most(50, 1000) > 0.05
    rng = np.random.default_rng(0)
    bounds = np.array([most(count, 30) for count in range(31)])
    assert (bounds[rng.binomial(30, 0.2, 4000)] >= 0.2).mean() >= 0.94


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    targets = np.array([0] * 9 + [1] + [0] * 3 + [1] * 7)
    assert expected_calibration_error(probabilities, targets) == pytest.approx((0 * 10 + 0.3 * 10) / 20)


def test_auroc_counts_pairs() -> None:
    rng = np.random.default_rng(2)
    known, unknown = rng.integers(3, 9, 40) / 10, rng.integers(0, 7, 30) / 10
    pairs = [1.0 if k > u else 0.5 if k == u else 0.0 for k in known for u in unknown]
    assert auroc(known, unknown) == pytest.approx(np.mean(pairs))
