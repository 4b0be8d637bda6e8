from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from fewshot_sdk.adaptation.adaptation import compare_and_adapt, settings_of, strategies_of, variants_of
from fewshot_sdk.adaptation.choice import representatives
from fewshot_sdk.adaptation.cross_validation import Candidate, HeldOut, Outcome
from fewshot_sdk.adaptation.methods import Strategy
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.recipe import Conv4, EfficientNet, Preprocessing
from fewshot_sdk.config.records import Method, Trial
from fewshot_sdk.images.examination import Examined
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.intervals import standard_error
from tests.conftest import tiny_recipe
from tests.nets.test_efficientnet import PHOTO

N = 40
NO_CANDIDATE: Candidate = None  # type: ignore[assignment]


def outcome(margins: np.ndarray, method: Method = "probe", features: int = 0, init: str = "photo") -> Outcome:
    """Of a strategy whose right class has such a logit, the other 0, on pictures of two classes."""
    targets = np.arange(N) % 2
    logits = np.zeros((N, 2))
    logits[np.arange(N), targets] = margins
    held = HeldOut(logits=logits, scores=logits.max(1), targets=targets, rows=np.arange(N), folds=np.arange(N) % 5)
    from fewshot_sdk.adaptation.cross_validation import accuracy_of, log_losses

    accuracy, error = accuracy_of(held)
    record = Trial(
        method=method, init=init, steps=0, accuracy=accuracy, standard_error=error,
        log_loss=float(log_losses(held).mean()),
    )  # fmt: skip
    strategy = Strategy(method=method, features=features)
    return Outcome(candidate=NO_CANDIDATE, strategy=strategy, trial=record, seconds=0.0, held_out=held)


def margins(wrong: int) -> np.ndarray:
    """Right by 3, but wrong by as much on some pictures."""
    found = np.full(N, 3.0)
    found[:wrong] = -3.0
    return found


def test_the_default_stays_unless_another_gains_more_than_one_standard_error() -> None:
    default, equal, slightly = outcome(margins(8)), outcome(margins(8), features=1), outcome(margins(7), features=2)
    assert representatives([default, equal]) == [default]
    assert slightly.trial.log_loss is not None
    assert default.trial.log_loss is not None
    assert slightly.trial.log_loss < default.trial.log_loss
    noisy = np.random.default_rng(0).permuted(margins(7))  # a lower loss, and different pictures wrong
    assert representatives([default, outcome(noisy, features=2)]) == [default]
    clearly = outcome(margins(2), features=1)
    assert representatives([default, slightly, clearly]) == [clearly]
    assert representatives([clearly, default]) == [clearly]


def test_each_method_and_initialization_has_a_representative_of_its_own() -> None:
    several = [
        outcome(margins(9), "prototypes"),
        outcome(margins(8)),
        outcome(margins(8), init="omniglot"),
        outcome(margins(1), features=1),
    ]
    assert representatives(several) == [several[0], several[3], several[2]]


def test_pictures_count_once_over_repeats() -> None:
    """Ten repeats of the same answers make nothing clearer."""
    before, after = outcome(margins(8)), outcome(np.random.default_rng(0).permuted(margins(7)), features=1)

    def repeated(one: Outcome) -> Outcome:
        held = one.held_out
        many = HeldOut(
            logits=np.tile(held.logits, (10, 1)),
            scores=np.tile(held.scores, 10),
            targets=np.tile(held.targets, 10),
            rows=np.tile(held.rows, 10),
            folds=np.tile(held.folds, 10),
        )
        return replace(one, held_out=many)

    wanted = representatives([before, after])
    found = representatives([repeated(before), repeated(after)])
    assert [each.strategy for each in found] == [each.strategy for each in wanted] == [before.strategy]
    assert standard_error(np.zeros(4)) == 0


@pytest.fixture
def photo(init: Initialization) -> Initialization:
    recipe = tiny_recipe(preprocessing=PHOTO, backbone=EfficientNet())
    return fresh(recipe, 0, init.provenance)


def examined(inits: Mapping[str, Initialization], colour: bool, stretched_differs: bool = False) -> Examined:
    """Two classes of three pictures, for all settings; those of another fit may differ."""

    def seen(settings: Preprocessing) -> SupportSet:
        shape = (6, settings.height, settings.width, settings.channels)
        pixels = np.random.default_rng(0).integers(100, 200, (*shape[:3], 1), np.uint8).repeat(settings.channels, 3)
        if colour and settings.channels == 3:
            pixels[..., 2] = 0
        if stretched_differs and settings.fit == "crop":
            pixels = pixels[:, ::-1].copy()
        return SupportSet(images=pixels, targets=np.repeat([0, 1], 3), labels=("a", "b"))

    return Examined(supports={settings: seen(settings) for settings in settings_of(inits, "auto")})


def tried(inits: Mapping[str, Initialization], examples: Examined) -> list[tuple[str, str]]:
    made = compare_and_adapt(inits, examples, method="auto", reject_rate=None)
    return sorted({(each.trial.init, each.trial.fit) for each in made.outcomes})


def test_colour_photographs_are_not_compared_with_drawing_networks_and_grey_ones_are(
    init: Initialization, photo: Initialization
) -> None:
    inits = {"omniglot": init, "photo": photo}
    assert tried(inits, examined(inits, colour=True)) == [("photo", "stretch")]
    assert tried(inits, examined(inits, colour=False)) == [("omniglot", ""), ("photo", "stretch")]
    alone = {"omniglot": init}
    assert tried(alone, examined(alone, colour=True)) == [("omniglot", "")]


def test_square_pictures_are_not_compared_twice(photo: Initialization) -> None:
    inits = {"photo": photo}
    assert tried(inits, examined(inits, colour=True)) == [("photo", "stretch")]
    both = [("photo", "crop"), ("photo", "stretch")]
    assert tried(inits, examined(inits, colour=True, stretched_differs=True)) == both


def test_only_auto_compares_ways_to_fit_and_the_recipes_comes_first(
    init: Initialization, photo: Initialization
) -> None:
    assert [each.recipe.preprocessing.fit for each in variants_of(photo, "auto")] == ["stretch", "crop"]
    assert variants_of(photo, "probe") == (photo,)
    assert variants_of(init, "auto") == (init,)
    inits = {"a": init, "b": photo}
    expected = [init.recipe.preprocessing, PHOTO, PHOTO.replace(fit="crop")]
    assert settings_of(inits, "auto") == expected
    assert settings_of(inits, "reptile") == expected[:2]


def test_steps_on_the_tail_are_tried_at_several_rates_if_they_are_steps_of_sgd(photo: Initialization) -> None:
    def moving(optimizer: str, trainable: str = "tail") -> Initialization:
        recipe = photo.recipe
        loop = recipe.adaptation.replace(optimizer=optimizer, trainable=trainable)
        return replace(photo, recipe=recipe.replace(inner=recipe.inner.replace(optimizer=optimizer), adaptation=loop))

    rates = EfficientNet.tail_rates
    at_rates = tuple(Strategy(method="reptile", steps=7, rate=rate) for rate in rates)
    assert strategies_of(moving("sgd"), "reptile", 7, 20) == at_rates
    assert strategies_of(moving("sgd"), "auto", 7, 20)[2:] == at_rates
    for other in (moving("adam"), moving("sgd", "head")):
        assert strategies_of(other, "reptile", 7, 20) == (Strategy(method="reptile", steps=7),)
    assert {each.method for each in strategies_of(moving("sgd"), "auto", None, 20)} == {"prototypes", "probe"}


def test_a_protonet_of_photographs_tries_each_of_its_features(photo: Initialization) -> None:
    recipe = with_algorithm(photo.recipe.replace(backbone=EfficientNet(summary="statistics")), "protonet")
    found = strategies_of(replace(photo, recipe=recipe), "auto", None, 20)
    assert [(each.method, each.features) for each in found] == [("prototypes", 0), ("probe", 0), ("probe", 1)]
    drawing = replace(photo, recipe=tiny_recipe(backbone=Conv4(filters=4)))
    assert [each.steps for each in strategies_of(drawing, "auto", None, 20)] == [0, 0, 5, 10, 20]
