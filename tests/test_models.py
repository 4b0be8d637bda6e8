from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_sdk import load
from fewshot_sdk.artifacts.opening import load_any
from fewshot_sdk.config.datasets import DATASETS
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.storage.cards import results_table
from fewshot_sdk.storage.repositories import bundled
from tests.conftest import REPOSITORY
from tests.render_models import rendered, results

MODELS = bundled()
NEEDED = {"README.md", "config.json", "inner_state.safetensors", "manifest.json", "model.safetensors"}


def test_the_default_is_there() -> None:
    assert "omniglot" in MODELS
    assert MODELS["omniglot"].parent == REPOSITORY / "models"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_bundled_initialization_loads_and_its_card_is_what_the_code_renders(name: str) -> None:
    folder = MODELS[name]
    found = load_any(name)
    assert found.recipe.preset == name
    there = {file.name for file in folder.iterdir()}
    assert there - {"metrics.jsonl"} == NEEDED
    assert found.files() == {file: (folder / file).read_bytes() for file in there - {"manifest.json"}}
    if isinstance(found.recipe, Recipe) and not DATASETS[found.recipe.data.name].closed:
        assert found.evaluations, "a card without results"
    assert found.provenance.meta_steps_done == found.recipe.meta.meta_steps


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_bundled_initialization_is_small(name: str) -> None:
    largest = 16_000_000 if name == "photo" else 5_000_000
    assert all(file.stat().st_size < largest for file in MODELS[name].iterdir())


def test_the_page_of_models_is_what_the_code_renders() -> None:
    page = (REPOSITORY / "models" / "README.md").read_text()
    assert page == rendered(), "run `make models`"


def test_the_page_of_results_is_what_the_code_renders() -> None:
    assert (REPOSITORY / "docs" / "results.md").read_text() == results(), "run `make models`"


def test_the_readme_shows_the_defaults_results() -> None:
    assert results_table(load("omniglot").evaluations) in (REPOSITORY / "README.md").read_text()


def test_no_model_code() -> None:
    assert not list(Path(REPOSITORY / "models").rglob("*.py"))
