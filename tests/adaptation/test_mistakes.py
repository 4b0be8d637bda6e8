from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_sdk.adaptation import mistakes
from fewshot_sdk.adaptation.adaptation import compare_and_adapt
from fewshot_sdk.adaptation.methods import Adapter, Strategy
from fewshot_sdk.adaptation.mistakes import find_mistakes
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.recipe import Backbone, Conv4, Mlp, Residual
from fewshot_sdk.config.records import Method
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.nets.heat_maps import heat_maps
from fewshot_sdk.nets.network import Network
from fewshot_sdk.nets.params import Params
from tests.conftest import tiny_recipe

SIDES = 24


def noise() -> SupportSet:
    """Pictures of three classes that nobody can tell apart."""
    images = np.random.default_rng(0).integers(0, 256, (15, SIDES, SIDES, 1), np.uint8)
    return SupportSet(labels=("a", "b", "c"), images=images, targets=np.repeat(np.arange(3), 5))


@pytest.mark.parametrize(
    ("backbone", "method"),
    [(Conv4(filters=4), "reptile"), (Residual(widths=(4, 6)), "probe"), (Residual(widths=(4, 6)), "prototypes")],
)
def test_a_mistake_is_explained_by_the_classifier_that_made_it(
    init: Initialization, backbone: Backbone, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing = init.recipe.preprocessing.replace(height=SIDES, width=SIDES)
    start = fresh(tiny_recipe(backbone=backbone, preprocessing=preprocessing), 0, init.provenance)
    support = noise()
    (outcome,) = compare_and_adapt({"i": start}, support, method=method, seed=3).outcomes
    seen: list[Tensor] = []

    def recorded(network: Network, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        maps, logits = heat_maps(network, images, classes)
        seen.append(logits)
        return maps, logits

    monkeypatch.setattr(mistakes, "heat_maps", recorded)
    found = find_mistakes(outcome, seed=3)
    assert 0 < len(found) <= mistakes.SHOWN
    again = torch.cat(seen).numpy()
    answers = outcome.held_out
    wrong = answers.logits.argmax(1) != answers.targets
    for one in found:
        (i,) = np.flatnonzero((answers.rows == one.row) & wrong)
        assert (one.truth, one.predicted) == (answers.targets[i], answers.logits[i].argmax())
        assert np.abs(again - answers.logits[i]).max(1).min() < 1e-3  # the same logits as in cross-validation
        assert one.heat_map is not None
        assert one.heat_map.shape == {"reptile": (2, 2), "prototypes": (12, 12), "probe": (12, 12)}[method]
        assert (support.targets[one.like_predicted], support.targets[one.like_truth]) == (one.predicted, one.truth)
        together = answers.rows[answers.folds == answers.folds[i]]
        assert not {one.row, one.like_predicted, one.like_truth} - {one.row} & set(together.tolist())
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
    assert len({one.row for one in found}) == len(found)


def test_the_pictures_beside_a_mistake_are_the_nearest(init: Initialization) -> None:
    preprocessing = init.recipe.preprocessing.replace(height=SIDES, width=SIDES)
    start = fresh(tiny_recipe(backbone=Residual(widths=(4, 6)), preprocessing=preprocessing), 0, init.provenance)
    support = noise()
    images = support.images.copy()
    images[7] = images[2] ^ 1  # of another class, and nearly the same
    twins = SupportSet(labels=support.labels, images=images, targets=support.targets)
    (outcome,) = compare_and_adapt({"i": start}, twins, method="prototypes").outcomes
    pairs = {one.row: (one.predicted, one.like_predicted) for one in find_mistakes(outcome)}
    near = [pairs[row][1] == twin for row, twin in ((2, 7), (7, 2)) if row in pairs and pairs[row][0] == twin // 5]
    assert near
    assert all(near)


def test_a_network_without_positions_has_mistakes_without_a_heat_map(init: Initialization) -> None:
    preprocessing = init.recipe.preprocessing.replace(height=SIDES, width=SIDES)
    start = fresh(tiny_recipe(backbone=Mlp(widths=(8,)), preprocessing=preprocessing), 0, init.provenance)
    (outcome,) = compare_and_adapt({"i": start}, noise(), method="prototypes").outcomes
    found = find_mistakes(outcome)
    assert found
    assert all(one.heat_map is None for one in found)


def test_it_adapts_again_at_most_three_times(init: Initialization, monkeypatch: pytest.MonkeyPatch) -> None:
    preprocessing = init.recipe.preprocessing.replace(height=SIDES, width=SIDES)
    start = fresh(tiny_recipe(preprocessing=preprocessing), 0, init.provenance)
    made = compare_and_adapt({"i": start}, noise(), method="auto")
    assert len(made.outcomes) > 1
    calls: list[int] = []
    learn = Adapter.learn

    def counted(adapter: Adapter, *given: Any) -> Iterator[tuple[Strategy, Params]]:
        calls.append(1)
        return learn(adapter, *given)

    monkeypatch.setattr(Adapter, "learn", counted)
    for outcome in made.outcomes:
        calls.clear()
        find_mistakes(outcome)
        assert len(calls) <= mistakes.ADAPTATIONS


def test_without_a_mistake_there_is_none(init: Initialization) -> None:
    images = np.zeros((10, 16, 16, 1), np.uint8)
    images[5:, :, 8:] = 255
    plain = SupportSet(labels=("a", "b"), images=images, targets=np.repeat(np.arange(2), 5))
    (outcome,) = compare_and_adapt({"i": init}, plain, method="prototypes").outcomes
    assert find_mistakes(outcome) == []
