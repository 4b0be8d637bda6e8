from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot_sdk.adaptation.cross_validation import Candidate, Features, Outcome, cross_validate
from fewshot_sdk.adaptation.learning_curve import learning_curve
from fewshot_sdk.adaptation.methods import Strategy
from fewshot_sdk.adaptation.rejection import most_confused
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.recipe import Conv4
from fewshot_sdk.images.support import SupportSet
from tests.conftest import tiny_recipe


def candidate(init: Initialization, shots: int, *, noise: float, norm: str = "group") -> Candidate:
    """Four classes of noisy features around a corner each; the pictures themselves are blank."""
    recipe = tiny_recipe(backbone=Conv4(filters=8, norm=norm))  # type: ignore[arg-type]
    start = fresh(recipe, 0, init.provenance)
    targets = np.arange(4).repeat(shots)
    images = np.zeros((len(targets), 16, 16, 1), np.uint8)
    support = SupportSet(labels=("a", "b", "c", "d"), images=images, targets=targets)
    made = Candidate(name="it", init=start, support=support, strategies=(Strategy(method="prototypes"),))
    if made.features is not None:
        rng = np.random.default_rng(0)
        width = made.features.values[0].shape[2]
        values = 10 * np.eye(4, width)[targets] + noise * rng.normal(size=(len(targets), width))
        made.__dict__["features"] = Features(values=(torch.tensor(values, dtype=torch.float32)[None],), seconds=0.0)
    return made


def outcome(made: Candidate) -> Outcome:
    (found,) = cross_validate([made], seed=0, watch=lambda work, _: work)
    return found


@pytest.fixture
def noisy(init: Initialization) -> Outcome:
    return outcome(candidate(init, 20, noise=5))


def test_the_last_point_is_the_accuracy_of_the_comparison(noisy: Outcome) -> None:
    points = learning_curve(noisy, 0)
    assert [point.shots for point in points] == [1, 2, 3, 5, 10, 16]
    assert points[-1].accuracy == noisy.trial.accuracy
    assert all(point.low <= point.accuracy <= point.high for point in points)


def test_noisy_features_need_more_pictures(noisy: Outcome) -> None:
    points = learning_curve(noisy, 0)
    assert points[0].accuracy + 0.1 < points[-1].accuracy


def test_classes_that_one_picture_tells_apart_have_a_flat_curve(init: Initialization) -> None:
    assert {point.accuracy for point in learning_curve(outcome(candidate(init, 5, noise=0.1)), 0)} == {1.0}


def test_it_is_the_same_twice(noisy: Outcome) -> None:
    assert learning_curve(noisy, 0) == learning_curve(noisy, 0)


def test_where_the_network_would_run_again_there_is_none(init: Initialization, noisy: Outcome) -> None:
    assert learning_curve(outcome(candidate(init, 5, noise=1, norm="batch")), 0) == ()
    assert learning_curve(replace(noisy, strategy=Strategy(method="reptile", steps=2)), 0) == ()


def test_classes_are_mixed_up_only_if_more_than_one_picture_is(noisy: Outcome) -> None:
    labels, held = noisy.candidate.support.labels, noisy.held_out
    right = np.eye(4)[held.targets]
    assert most_confused(replace(held, logits=right), labels) is None
    for n, expected in ((1, None), (3, ("b", "d", 3, 40))):
        logits = right.copy()
        for row in np.flatnonzero(held.targets == 1)[:n]:
            logits[row] = np.eye(4)[3]
        found = most_confused(replace(held, logits=logits), labels)
        assert (found and (found.first, found.second, found.pictures, found.of)) == expected
