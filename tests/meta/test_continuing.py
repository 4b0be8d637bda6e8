"""Training that goes on from an initialization: what is kept, and what the card tells of the chain."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewshot_sdk import load, meta_train, save
from fewshot_sdk.artifacts.initialization import Initialization, continued, from_weights
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.provenance import MAX_CHAIN, Origin, Provenance, Weights
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.meta.run import train_to_folder
from fewshot_sdk.nets.network import HEAD, build_network
from fewshot_sdk.runtime.lineage import lineage
from fewshot_sdk.storage.cards import use_of
from tests.conftest import tiny_recipe
from tests.meta.test_tail import recipe_of
from tests.nets.test_efficientnet import even_weights

MADE = Provenance(command="the test", seed=7, meta_steps_done=0, data_sha256="ab", seconds=0, versions={})
WEIGHTS = Weights(package="p 1", file="f.pth", sha256="cd", data="ImageNet", licence="Apache-2.0", authors="Tan, Le")


def dense(recipe: Recipe) -> Recipe:
    return recipe.replace(head="dense")


def trained(recipe: Recipe, sampler: TaskSampler, start: Initialization | None = None) -> Initialization:
    """The last step; `start` is where this training begins."""
    return list(meta_train(recipe, sampler, start=start))[-1].initialization


def longer(recipe: Recipe, meta_steps: int) -> Recipe:
    return recipe.replace(meta=recipe.meta.replace(meta_steps=meta_steps))


def test_weights_second_moments_and_their_count_are_kept(init: Initialization) -> None:
    begun = continued(init, init.recipe, MADE)
    assert init.state.updates > 0
    assert begun.state.updates == init.state.updates
    for kept, was in ((begun.state.params, init.state.params), (begun.state.second_moments, init.state.second_moments)):
        assert kept.keys() == was.keys()
        assert all(torch.equal(kept[name], was[name]) for name in was)
    assert begun.provenance == MADE.replace(start=init.origin)


def test_another_inner_optimizer_forgets_the_moments(init: Initialization) -> None:
    begun = continued(init, with_algorithm(init.recipe, "maml"), MADE)
    assert (begun.state.updates, begun.state.second_moments) == (0, {})


def test_learned_rates_are_kept_by_an_algorithm_that_learns_them(init: Initialization, sampler: TaskSampler) -> None:
    recipe = longer(with_algorithm(init.recipe, "meta-sgd"), 1)
    first = trained(recipe, sampler)
    again = continued(first, recipe, MADE)
    assert all(torch.equal(again.state.rates[name], rate) for name, rate in first.state.rates.items())
    reset = continued(init, recipe, MADE)
    assert {float(rate.min()) for rate in reset.state.rates.values()} == {
        float(torch.tensor(recipe.inner.learning_rate))
    }


def test_a_dense_head_is_kept_if_it_has_a_row_for_each_class(init: Initialization, sampler: TaskSampler) -> None:
    recipe = dense(longer(init.recipe, 1))
    first = trained(recipe, sampler)
    same = continued(first, recipe, MADE)
    assert all(torch.equal(same.state.params[name], first.state.params[name]) for name in HEAD)
    wider = recipe.replace(meta=recipe.meta.replace(n_way=recipe.meta.n_way + 1))
    other = continued(first, wider, MADE)
    assert len(other.state.params["head.bias"]) == len(first.state.params["head.bias"]) + 1
    moments = other.state.second_moments["head.weight"]
    assert torch.allclose(moments, first.state.second_moments["head.weight"].mean(0).expand(moments.shape))
    assert not set(HEAD) & continued(first, init.recipe, MADE).state.params.keys()


def test_training_goes_on_from_it_and_the_chain_is_on_the_card(init: Initialization, tmp_path: Path) -> None:
    recipe = longer(init.recipe, 2)
    first = train_to_folder(recipe, tmp_path / "first", init=init, seed=1, evaluate_every=0)
    second = train_to_folder(recipe, tmp_path / "second", init=first, seed=2, evaluate_every=0)
    assert [origin.sha256 for origin in second.provenance.chain] == [first.sha256, init.sha256]
    assert load(tmp_path / "second").provenance == second.provenance
    assert second.state.updates == init.state.updates + 4 * recipe.inner.steps
    card = (tmp_path / "second" / "README.md").read_text(encoding="utf-8")
    assert f"| it went on from | `glyphs` (sha256 `{first.sha256}`), trained on glyphs, split seeded by" in card
    assert f"| which went on from | `glyphs` (sha256 `{init.sha256}`), trained on" in card
    told = lineage(tmp_path / "second").steps()
    of_one = ["trained", "by"]
    assert [line.split(" ")[0] for line in told] == ["initialization", *of_one, "which", *of_one, "which", *of_one]


def test_an_interruption_changes_no_bit_and_another_start_is_refused(init: Initialization, tmp_path: Path) -> None:
    recipe = longer(init.recipe, 3)

    def stop(event: object) -> None:
        if getattr(event, "done", 0) == 2:
            raise KeyboardInterrupt

    whole = train_to_folder(recipe, tmp_path / "whole", init=init, evaluate_every=0)
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(recipe, tmp_path / "x", init=init, evaluate_every=0, on_event=stop)
    with pytest.raises(ConfigError, match=r"it began with glyphs .* not with glyphs"):
        train_to_folder(recipe, tmp_path / "x", init=whole, evaluate_every=0, resume=True)
    resumed = train_to_folder(recipe, tmp_path / "x", init=init, evaluate_every=0, resume=True)
    assert resumed.sha256 == whole.sha256


def test_a_card_of_ones_own_loads_the_folder_and_not_a_bundled_one(init: Initialization, tmp_path: Path) -> None:
    own = save(replace(init, recipe=init.recipe.replace(preset="omniglot")), tmp_path / "own")
    card = (own / "README.md").read_text(encoding="utf-8")
    assert 'load("path/to/this/folder")' in card
    assert 'load("omniglot")' not in card
    assert 'load("omniglot")' in load("omniglot").files()["README.md"].decode()
    assert load("omniglot").origin.name == "omniglot"


def test_what_was_trained_on_pictures_for_research_stays_for_research(init: Initialization) -> None:
    begun = continued(load("mini-imagenet-5way"), load("mini-imagenet-5way").recipe, MADE)
    assert "For research only" in use_of(init.recipe, begun.provenance)


def test_published_weights_at_the_beginning_of_a_chain_are_named(init: Initialization) -> None:
    first = replace(init, provenance=init.provenance.replace(weights=WEIGHTS))
    begun = continued(continued(first, init.recipe, MADE), init.recipe, MADE)
    card = begun.files()["README.md"].decode()
    assert "| weights that began with | `f.pth` of p 1, trained on ImageNet, sha256 `cd` |" in card
    assert "depends on the pictures that it was trained on" in card
    assert "**May be used in products**" not in card


def test_a_chain_without_end_is_refused(init: Initialization, tmp_path: Path) -> None:
    made = MADE
    for _ in range(MAX_CHAIN):
        made = MADE.replace(start=Origin(name="x", sha256="ab", provenance=made))
    with pytest.raises(ConfigError, match=f"at most {MAX_CHAIN} initializations"):
        MADE.replace(start=Origin(name="x", sha256="ab", provenance=made))
    text = json.dumps(MADE.model_dump(mode="json"))
    endless = text.replace('"versions"', f'"start": {{"name": "x", "sha256": "ab", "provenance": {text}}}, "versions"')
    for _ in range(7):  # twice as deep each time
        endless = endless.replace(text, endless)
    with pytest.raises(ConfigError):
        Provenance.from_json(endless)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_protonet_moves_only_the_part_that_is_trainable(optimizer: str, init: Initialization) -> None:
    made = recipe_of("protonet")
    recipe = made.replace(
        inner=made.inner.replace(trainable="tail"), meta=made.meta.replace(optimizer=optimizer, meta_steps=2)
    )
    network = build_network(recipe.backbone, recipe.preprocessing, 3)
    start = from_weights(recipe, even_weights(network), init.provenance)
    from tests.data.test_domains import domains

    tasks = domains(n_way=3, k_shot=2, seed=4)
    sampler = TaskSampler(data=tasks.photographs, n_way=3, k_shot=2, seed=4)
    begun = continued(start, recipe, MADE.replace(seed=4, data_sha256=sampler.data.digest, versions=_versions()))
    end = list(meta_train(recipe, sampler, start=begun))[-1].initialization
    moved = {
        name.partition(".")[0]
        for name, was in start.state.params.items()
        if not torch.equal(was, end.state.params[name])
    }
    assert moved <= set(recipe.backbone.tail)
    assert moved


def _versions() -> dict[str, str]:
    from fewshot_sdk.engine.compiler import made_with

    return made_with()


def test_a_protonet_has_no_head_to_move() -> None:
    recipe = with_algorithm(tiny_recipe(), "protonet")
    with pytest.raises(ConfigError, match="protonet learns no head; expected all, norm, tail or body, found head"):
        recipe.replace(inner=recipe.inner.replace(trainable="head"))
