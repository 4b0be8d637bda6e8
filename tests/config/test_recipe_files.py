"""Recipes as TOML: what is written is read back, every setting is explained, and the schema holds them all."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator

import pytest

from fewshot_sdk.config.backbones import BACKBONES, Timm
from fewshot_sdk.config.presets import PRESETS, preset, with_algorithm
from fewshot_sdk.config.recipe import DataSource, OwnClasses, Pretraining, Recipe
from fewshot_sdk.config.recipe_files import differences, recipe_schema, recipe_text
from fewshot_sdk.config.recipe_settings import AnyRecipe, flat, group_in, recipe_from, table_of
from fewshot_sdk.config.regression import NUMBER_PRESETS, Regression
from fewshot_sdk.config.settings import Config
from tests.conftest import tiny_recipe

OWN = DataSource(
    name="my-pets",
    split="0.7/0.3, seed 0",
    own=OwnClasses(train=("ant", "b'e\"e", "été\x7f\x00", "= 3"), test=("猫", "")),
)


def kinds_in(kind: type[Config]) -> Iterator[type[Config]]:
    """A kind of settings, and those of all groups inside it, each kind of backbone included."""
    yield kind
    for field in kind.model_fields.values():
        if group := group_in(field):
            yield from kinds_in(group)


KINDS = sorted(
    {*kinds_in(Recipe), *kinds_in(Regression), *(row.settings for row in BACKBONES.values())},
    key=lambda kind: kind.__name__,
)  # the same order in every process


def some_recipe(kind: str) -> Recipe:
    return tiny_recipe(backbone=Timm(name="resnet10t") if kind == "timm" else BACKBONES[kind].settings(kind=kind))


def read_back(recipe: AnyRecipe) -> AnyRecipe:
    return recipe_from(tomllib.loads(recipe_text(recipe)))


@pytest.mark.parametrize("recipe", [*PRESETS.values(), *NUMBER_PRESETS.values()], ids=lambda recipe: recipe.preset)
def test_a_preset_that_is_written_is_read_back(recipe: AnyRecipe) -> None:
    assert read_back(recipe) == recipe


@pytest.mark.parametrize("kind", BACKBONES)
def test_so_is_every_kind_of_backbone(kind: str) -> None:
    assert read_back(some_recipe(kind)) == some_recipe(kind)


@pytest.mark.parametrize(
    "recipe",
    [
        tiny_recipe(data=OWN),
        tiny_recipe(preset="", pretraining=Pretraining(epochs=2, pictures="drawings")),
        with_algorithm(preset("glyphs"), "boil"),
        NUMBER_PRESETS["sine"].replace(inputs=("a b", "ü", '"'), output="[y]"),
    ],
    ids=["own data", "pre-training", "boil", "columns"],
)
def test_so_are_text_lists_and_groups_of_any_content(recipe: AnyRecipe) -> None:
    assert read_back(recipe) == recipe


def test_numbers_are_written_exactly() -> None:
    rng = random.Random(1)
    recipe = preset("photo")
    for _ in range(50):
        rates = {"learning_rate": 10 ** rng.uniform(-300, 300), "beta2": rng.random(), "epsilon": rng.random() * 1e-8}
        inner = recipe.inner.replace(**rates, batch_size=rng.randrange(1, 10**8))
        pixels = recipe.preprocessing.replace(mean=tuple(rng.uniform(-1, 1) for _ in range(3)))
        changed = recipe.replace(inner=inner, preprocessing=pixels)
        assert read_back(changed) == changed


def test_a_whole_number_does_for_a_fraction_but_no_other_type_for_another() -> None:
    text = recipe_text(preset("glyphs"))
    found = recipe_from(tomllib.loads(text.replace("learning_rate = 0.003", "learning_rate = 1")))
    assert (found.inner.learning_rate, type(found.inner.learning_rate)) == (1.0, float)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_is_described_in_one_short_text(kind: type[Config]) -> None:
    for name, field in kind.model_fields.items():
        assert field.description, name
        assert len(field.description) <= 200, name
        assert field.description.endswith("."), name


def test_a_comment_tells_what_a_setting_is_what_it_may_be_and_its_default() -> None:
    lines = recipe_text(preset("glyphs")).splitlines()
    assert lines[lines.index("beta2 = 0.999") - 1] == (
        "# Decay of Adam's second moments. A number from 0, below 1; default 0.999."
    )
    assert lines[lines.index("steps = 5") - 1] == "# Gradient steps on each task. An integer from 0 to 1000000."
    assert lines[lines.index('fit = "pad"') - 1].endswith("One of pad, crop, stretch; default pad.")
    assert any("One of reptile, fomaml, maml," in line for line in lines)
    assert "Its kind is one of conv4, mlp, residual, efficientnet, timm, embeddings." in " ".join(lines).replace(
        "# ", ""
    )
    assert max(map(len, lines)) <= 120


def test_what_is_absent_is_there_as_a_comment_that_can_be_uncommented() -> None:
    glyphs = preset("glyphs")
    before, _, last = recipe_text(glyphs).partition("#[pretraining]")
    there = recipe_from(tomllib.loads(before + "[pretraining]" + re.sub(r"(?m)^#(?=\w)", "", last)))
    assert there == glyphs.replace(pretraining=Pretraining(epochs=30))
    divided = recipe_text(glyphs).rpartition("#loss_divisor = 10")
    assert recipe_from(tomllib.loads(f"{divided[0]}loss_divisor = 10{divided[2]}")).adaptation.loss_divisor == 10


def test_each_setting_is_written_once() -> None:
    names = [*flat(table_of(preset("mini-imagenet-residual")))]
    found = flat(tomllib.loads(recipe_text(preset("mini-imagenet-residual"))))
    assert found.keys() == {*names} - {"data.own", "inner.loss_divisor", "adaptation.loss_divisor"}


def test_the_schema_names_and_describes_every_setting_of_every_kind() -> None:
    schema = recipe_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    found: dict[str, set[str]] = {}

    def visit(part: object) -> None:
        if isinstance(part, list):
            for one in part:
                visit(one)
        if isinstance(part, dict):
            if "$ref" in part:
                assert part["$ref"].removeprefix("#/$defs/") in schema["$defs"]  # type: ignore[operator]
            if "properties" in part:
                found[part["title"]] = set(part["properties"])
                assert all(its["description"] for its in part["properties"].values())
                assert part["additionalProperties"] is False
            for one in part.values():
                visit(one)

    visit(schema)
    assert {kind.__name__: set(kind.model_fields) for kind in KINDS if kind.__name__ != "BackboneSettings"} == found
    assert schema["anyOf"] == [{"$ref": "#/$defs/Recipe"}, {"$ref": "#/$defs/Regression"}]


def test_a_backbones_kind_is_required_in_the_schema() -> None:
    backbone = recipe_schema()["$defs"]["Recipe"]["properties"]["backbone"]  # type: ignore[index]
    assert [one["required"] for one in backbone["anyOf"]] == [["kind"]] * len(BACKBONES)


def test_differences_are_told_in_the_words_of_a_file() -> None:
    glyphs = preset("glyphs")
    other = glyphs.replace(
        preset='my "own"',
        head="dense",
        inner=glyphs.inner.replace(learning_rate=2e-3),
        adaptation=glyphs.adaptation.replace(loss_divisor=10),
        preprocessing=glyphs.preprocessing.replace(mean=(0.5,)),
    )
    assert differences(flat(table_of(glyphs)), flat(table_of(other))) == [
        'preset was glyphs, now my "own"',
        "preprocessing.mean was [1.0], now [0.5]",
        "head was zero, now dense",
        "inner.learning_rate was 0.003, now 0.002",
        "adaptation.loss_divisor was none, now 10",
    ]


def test_a_long_list_is_shortened_in_a_difference() -> None:
    many = DataSource(name="mine", split="by name", own=OwnClasses(train=tuple(map(str, range(5000)))))
    told = differences(flat(table_of(tiny_recipe())), flat(table_of(tiny_recipe(data=many))))
    assert max(map(len, told)) < 500
