"""Single settings of a recipe, by their dotted names: what --set takes, and what it says of what it does not take."""

from __future__ import annotations

import pytest

from fewshot_sdk.config.backbones import Conv4, Mlp, Residual
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import Pretraining, Recipe
from fewshot_sdk.config.recipe_settings import recipe_from, table_of, with_settings
from fewshot_sdk.config.regression import NUMBER_PRESETS
from fewshot_sdk.errors import ConfigError

GLYPHS = preset("glyphs")


def changed(*changes: str) -> Recipe:
    return with_settings(GLYPHS, changes)


def test_no_change_is_no_change() -> None:
    assert with_settings(GLYPHS, []) == GLYPHS
    assert recipe_from(table_of(GLYPHS)) == GLYPHS


def test_a_value_is_in_toml_or_a_bare_word() -> None:
    found = changed(
        "inner.learning_rate=2e-3", "head = prototype", 'preset="my own"', "meta.algorithm=protonet",
        "meta.tail_shots=5", "preprocessing.mean=[0.5]", "data.rotations=true", "adaptation.steps=7",
    )  # fmt: skip
    assert (found.inner.learning_rate, found.head, found.preset) == (2e-3, "prototype", "my own")
    assert (found.meta.algorithm, found.meta.tail_shots, found.preprocessing.mean) == ("protonet", 5, (0.5,))
    assert (found.data.rotations, found.adaptation.steps, found.inner.steps) == (True, 7, 5)


def test_a_text_may_look_like_a_number() -> None:
    assert changed("preset=5").preset == "5"
    assert changed("preset=a=b # c").preset == "a=b # c"


def test_the_last_of_two_changes_of_one_setting_counts() -> None:
    assert changed("inner.steps=2", "inner.steps=3").inner.steps == 3


def test_none_removes_what_may_be_absent_and_is_a_word_elsewhere() -> None:
    pretrained = GLYPHS.replace(pretraining=Pretraining(epochs=3))
    assert with_settings(pretrained, ["pretraining=none"]) == GLYPHS
    assert changed("adaptation.loss_divisor=10").adaptation.loss_divisor == 10
    assert changed("adaptation.loss_divisor=10", "adaptation.loss_divisor=none") == GLYPHS
    assert changed("backbone.norm=none").backbone == Conv4(filters=32, norm="none")


def test_a_change_in_an_absent_group_makes_it_with_its_defaults() -> None:
    assert changed("pretraining.epochs=5").pretraining == Pretraining(epochs=5)
    assert changed("pretraining.pictures=drawings", "pretraining.epochs=5").pretraining == Pretraining(
        epochs=5, pictures="drawings"
    )
    own = changed("data.name=mine", "data.own.train=['ant', 'bee']").data.own
    assert own is not None
    assert own.train == ("ant", "bee")


def test_a_group_may_be_replaced_as_a_whole() -> None:
    assert changed("backbone={kind = 'mlp', widths = [8]}").backbone == Mlp(widths=(8,))


def test_another_kind_of_backbone_begins_with_its_defaults_wherever_it_is_named() -> None:
    assert changed("backbone.kind=residual").backbone == Residual()
    assert changed("backbone.widths=[8, 8]", "backbone.kind=residual").backbone == Residual(widths=(8, 8))
    assert changed("backbone.kind=conv4").backbone == GLYPHS.backbone


def test_a_recipe_for_numbers_takes_its_own_settings() -> None:
    sine = NUMBER_PRESETS["sine"]
    assert with_settings(sine, ["network.widths=[8]"]) == sine.replace(network=sine.network.replace(widths=(8,)))
    assert recipe_from(table_of(sine)) == sine


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("inner.learning_rat=1", "no setting inner.learning_rat; did you mean inner.learning_rate?"),
        ("bakbone.filters=1", "no setting bakbone.filters; did you mean backbone.filters?"),
        ("n_way=5", "no setting n_way; did you mean meta.n_way?"),
        ("inner.n_way=5", "no setting inner.n_way; did you mean meta.n_way?"),
        ("batch_size=5", "did you mean inner.batch_size or adaptation.batch_size or pretraining.batch_size?"),
        (
            "backbone.widths=[3]",
            "no setting backbone.widths; backbone has kind, filters, downsample, norm_epsilon, norm",
        ),
        ("preset.x=1", "no setting preset.x; did you mean preset?"),
        ("surprise=1", "no setting surprise"),
        ("inner={learning_rat=1}", "no setting inner.learning_rat; did you mean inner.learning_rate?"),
        ("inner.learning_rate=-1", "inner.learning_rate: input should be greater than 0, found -1"),
        ("inner.learning_rate=nan", "inner.learning_rate: input should be a finite number, found nan"),
        ("inner.learning_rate=true", "inner.learning_rate: input should be a valid number, found True"),
        ("inner.learning_rate=", "inner.learning_rate: input should be a valid number, found ''"),
        ("adaptation.steps=true", "adaptation.steps: input should be a valid integer, found True"),
        ("adaptation.steps=1.5", "adaptation.steps: input should be a valid integer, found 1.5"),
        ("adaptation.steps=2000000", "adaptation.steps: input should be less than or equal to 1000000, found 2000000"),
        ("head=zro", "head: input should be 'dense', 'zero' or 'prototype', found 'zro'"),
        ("inner=5", "inner: expected a group of settings, found 5"),
        ("inner={steps=1}", "inner.learning_rate: field required; inner.batch_size: field required"),
        ("inner.steps=0", "inner: meta-training needs at least 1 inner step"),
        ("meta.tail_shots=20", "meta.tail_shots: expected fewer than k_shot 10, and 0 with reptile, found 20"),
        ("meta.algorithm=mamle", "meta: no algorithm 'mamle'; the algorithms are reptile,"),
        ("backbone.kind=residul", "no backbone 'residul'; the backbones are conv4, mlp,"),
        ("backbone.kind=timm", "backbone.name: field required"),
        (
            "backbone.kind=3",
            "backbone.kind: expected one of conv4, mlp, residual, efficientnet, timm, embeddings, found 3",
        ),
        ("backbone.filters=0", "backbone.filters: input should be greater than or equal to 1, found 0"),
        ("data.name=omniglot", "data.split: omniglot has the split paper or official, found 'seeded'"),
        ("data.own.train=['a', 'a']", "data.own: each class belongs to one part, once; found twice: a"),
        ("preprocessing.mean=[0.1", "preprocessing.mean: expected a TOML value, or a word without quotes, found [0.1"),
        ("pretraining.pictures=drawings", "pretraining.epochs: field required"),
        ("inner.steps", "expected NAME=VALUE, such as inner.learning_rate=0.002, found 'inner.steps'"),
        ("=3", "expected NAME=VALUE, such as inner.learning_rate=0.002, found '=3'"),
    ],
)
def test_what_is_wrong_is_named_in_full_and_once(change: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        changed(change)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_numbers_have_no_backbone() -> None:
    with pytest.raises(ConfigError, match=r"^no setting backbone\.kind$"):
        with_settings(NUMBER_PRESETS["sine"], ["backbone.kind=mlp"])


def test_many_unknown_settings_are_counted() -> None:
    table = {**table_of(GLYPHS), **{f"surprise{i}": 0 for i in range(9)}}
    with pytest.raises(ConfigError, match=r"no setting surprise0; .*no setting surprise4; and 4 more$"):
        recipe_from(table)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "preset: field required"),
        ({"data": "sine"}, "network: field required"),
        ({"backbone": {}}, "backbone.kind"),
    ],
)
def test_a_recipe_that_lacks_settings_names_them(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recipe_from(table)
