"""What a person reads who gets a setting wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fewshot_sdk.config.recipe import InnerLoop, Preprocessing, Recipe, Timm
from fewshot_sdk.errors import ConfigError
from tests.conftest import tiny_recipe

RECIPE = tiny_recipe()


@pytest.mark.parametrize(
    "make",
    [
        lambda: RECIPE.preprocessing.replace(kept=0.5),
        lambda: RECIPE.preprocessing.replace(mean=(0.0, 0.0)),
        lambda: RECIPE.replace(inner=RECIPE.inner.replace(steps=0)),
        lambda: RECIPE.replace(inner=RECIPE.inner.replace(loss_divisor=2)),
        lambda: RECIPE.replace(adaptation=RECIPE.adaptation.replace(optimizer="sgd")),
    ],
    ids=["kept", "mean", "steps", "loss_divisor", "optimizer"],
)
def test_no_message_names_the_kind_of_exception(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert "value error" not in str(error.value).lower()


def test_a_mistyped_setting_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"^InnerLoop: stepz: no such setting; did you mean 'steps'\?$"):
        RECIPE.inner.replace(stepz=5)
    with pytest.raises(ConfigError, match=r"preprocesing: no such setting; did you mean 'preprocessing'\?"):
        Recipe.from_json(RECIPE.model_dump_json().replace('"preprocessing"', '"preprocesing"'))


def test_an_unknown_setting_like_no_other_gets_no_guess() -> None:
    with pytest.raises(ConfigError, match=r"^InnerLoop: surprise: no such setting$"):
        RECIPE.inner.replace(surprise=5)


def test_what_is_quoted_keeps_its_capitals() -> None:
    with pytest.raises(ConfigError, match=r"name: string should match pattern '\^\[A-Za-z0-9_\]\{1,100\}\$'"):
        Timm(name="a b")


def test_many_wrong_settings_are_counted() -> None:
    wrong = dict.fromkeys(["height", "width", "channels", "resize", "fit", "polarity", "mean"], "?")
    with pytest.raises(ConfigError, match=r"height: .*; fit: .*; and 2 more$") as error:
        Preprocessing.model_validate(wrong)
    assert "polarity" not in str(error.value)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^InnerLoop: learning_rate: field required; batch_size: field required"):
        InnerLoop.from_json('{"steps": 1}')
