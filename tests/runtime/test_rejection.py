"""The temperature and the limit for `unknown`, from features alone."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_sdk.runtime.calibration import Ints
from fewshot_sdk.runtime.rejection import Head, Limits, Rows, limits
from fewshot_sdk.runtime.steps import centre_of

N_WAY, SHOTS, WIDTH = 4, 6, 30


def means(features: Rows, targets: Ints) -> Head:
    """Class means as a head."""
    centre = centre_of(features, targets)
    rows = np.stack([features[targets == k].mean(0) - centre for k in range(int(targets.max()) + 1)])
    bias = -rows @ centre - (rows**2).sum(1) / 2
    return Head(weight=rows.astype(np.float32), bias=bias.astype(np.float32), centre=centre)


def clusters(noise: float) -> tuple[Rows, Ints]:
    rng = np.random.default_rng(3)
    targets = np.repeat(np.arange(N_WAY), SHOTS)
    middles = np.eye(N_WAY, WIDTH) * 4 + 1
    return (middles[targets] + rng.normal(0, noise, (len(targets), WIDTH))).astype(np.float32), targets


def test_pictures_of_the_classes_are_above_the_limit_and_those_of_others_below() -> None:
    features, targets = clusters(0.3)
    found, head = limits(features, targets, means, seed=0), means(features, targets)
    assert found.least_score is not None
    strangers = (np.eye(N_WAY + 3, WIDTH)[N_WAY:] * 4 + 1).astype(np.float32)
    assert (head.scores(features) >= found.least_score).all()
    assert (head.scores(strangers) < found.least_score).all()


def test_where_classes_are_easy_to_tell_apart_the_limit_is_lower() -> None:
    features, targets = clusters(0.3)
    alone, both = (limits(features, targets, means, seed=0, leave_out=out).least_score for out in (False, True))
    assert alone is not None
    assert both is not None
    assert both < alone - 0.1


def test_the_limit_rises_with_the_share_of_pictures_that_may_be_lost() -> None:
    features, targets = clusters(1.5)
    rising = [limits(features, targets, means, seed=0, rate=rate).least_score for rate in (0.05, 0.2, 0.5)]
    assert rising == sorted(rising, key=lambda least: least or -1)
    assert len(set(rising)) == 3
    assert limits(features, targets, means, seed=0, rate=0).least_score is None


@pytest.mark.parametrize("shots", [(1, 1, 1), (5, 1, 1)])
def test_without_a_second_picture_in_two_classes_there_is_no_limit(shots: tuple[int, ...]) -> None:
    targets = np.repeat(np.arange(3), shots)
    features = np.random.default_rng(0).normal(size=(len(targets), WIDTH)).astype(np.float32)
    assert limits(features, targets, means, seed=0) == Limits()
