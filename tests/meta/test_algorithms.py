from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch

from fewshot_sdk import adapt, export_onnx, load, save
from fewshot_sdk.algorithms import ALGORITHMS, Algorithm, Outer
from fewshot_sdk.artifacts.initialization import Initialization, fresh, load_checkpoint, save_checkpoint
from fewshot_sdk.config.presets import preset, with_algorithm, with_outer
from fewshot_sdk.config.recipe import InnerLoop, Recipe
from fewshot_sdk.data.tasks import TaskSampler, mini_batches
from fewshot_sdk.engine.heads import open_head
from fewshot_sdk.engine.inner_loop import fine_tune
from fewshot_sdk.engine.optimizers import KINDS, descend, initial_memory
from fewshot_sdk.errors import ConfigError, ExportError, TrainingDiverged
from fewshot_sdk.export.learner import export_learner
from fewshot_sdk.meta.evaluation import evaluate
from fewshot_sdk.meta.training import MetaStep, meta_train
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.nets.params import learned
from tests.conftest import tiny_recipe
from tests.meta.test_outer_loop import NOWHERE, adapted, average

SECOND_ORDER: tuple[Algorithm, ...] = ("maml", "anil", "boil", "meta-sgd")


def recipe_of(algorithm: Algorithm, meta_steps: int = 3) -> Recipe:
    recipe = with_algorithm(tiny_recipe(), algorithm)
    return recipe.replace(meta=recipe.meta.replace(meta_steps=meta_steps))


def steps_of(algorithm: Algorithm, sampler: TaskSampler) -> list[MetaStep]:
    return list(meta_train(recipe_of(algorithm), sampler))


@pytest.mark.parametrize("algorithm", list(ALGORITHMS)[1:])  # reptile's workflow is tested elsewhere
def test_every_algorithm_runs_the_whole_workflow(
    sampler: TaskSampler, drawings: Path, tmp_path: Path, algorithm: Algorithm
) -> None:
    made = steps_of(algorithm, sampler)[-1].initialization
    init = load(save(made, tmp_path / "init"))
    assert init.files() == made.files()
    assert (tmp_path / "init" / "model.safetensors").exists()
    assert not (tmp_path / "init" / "outer_state.safetensors").exists()
    found = evaluate(init, replace(sampler, n_query=1), n_tasks=1, mode="frozen")
    assert 0 <= found.accuracy <= 1
    classifier = adapt(init, drawings, steps=2, reject_rate=None)  # three classes, where a dense head has five
    export_onnx(classifier, tmp_path / "model.onnx")


@pytest.mark.parametrize("algorithm", [*SECOND_ORDER, "protonet"])
def test_a_checkpoint_continues_to_the_bits_of_not_stopping(
    sampler: TaskSampler, tmp_path: Path, algorithm: Algorithm
) -> None:
    first, *_, last = steps_of(algorithm, sampler)
    kept = load_checkpoint(save_checkpoint(first.initialization, tmp_path / "checkpoint"))
    assert kept.outer.keys() == first.initialization.outer.keys()
    *_, end = meta_train(recipe_of(algorithm), sampler, start=kept)
    assert end.initialization.files().keys() == last.initialization.files().keys()
    assert end.initialization.sha256 == last.initialization.sha256


def test_without_the_outer_optimizers_memory_training_cannot_go_on(sampler: TaskSampler, tmp_path: Path) -> None:
    first = steps_of("maml", sampler)[0].initialization
    with pytest.raises(ConfigError, match="lacks the outer optimizer's state"):
        next(meta_train(recipe_of("maml"), sampler, start=load(save(first, tmp_path / "init"))))


@pytest.mark.parametrize(("algorithm", "head"), [("anil", True), ("boil", False)])
def test_inner_steps_move_their_part_alone(sampler: TaskSampler, algorithm: Algorithm, head: bool) -> None:
    recipe, task = recipe_of(algorithm), sampler.task(0)
    network = build_network(recipe.backbone, recipe.preprocessing, 5)
    start = open_head(fresh(recipe, 0, NOWHERE).state, recipe.head, network)
    for inner in (recipe.inner, recipe.adaptation):
        batches = mini_batches(15, inner.batch_size, 2, task.seed)
        end, _ = fine_tune(network, start, task.support, task.support_labels, batches, inner)
        for name, tensor in end.params.items():
            if name.endswith("weight"):
                assert torch.equal(tensor, start.params[name]) != (name.startswith("head") == head), name


def test_all_that_is_stored_is_learned_outside(sampler: TaskSampler) -> None:
    """ANIL's outer loop moves the body, BOIL's the head, and Meta-SGD's the rates, down to one row of the head."""
    for algorithm in SECOND_ORDER:
        before = learned(fresh(recipe_of(algorithm), 0, NOWHERE).state)
        after = learned(steps_of(algorithm, sampler)[-1].initialization.state)
        still = {n for n in after if torch.equal(after[n], before[n])}
        assert not {n for n in still if n.endswith("weight")}, algorithm
        assert after.keys() == before.keys()
        assert any(name.startswith("rate.") for name in after) == (algorithm == "meta-sgd")


def test_learned_rates_are_what_adaptation_goes_by(sampler: TaskSampler) -> None:
    recipe, task = recipe_of("meta-sgd"), sampler.task(0)
    network = build_network(recipe.backbone, recipe.preprocessing, 5)
    start = open_head(fresh(recipe, 0, NOWHERE).state, recipe.head, network)
    assert start.rates["head.weight"].shape == start.params["head.weight"].shape
    inner = recipe.adaptation.replace(learning_rate=7.0)  # ignored here
    batches = mini_batches(15, 15, 2, task.seed)
    by_rates, _ = fine_tune(network, start, task.support, task.support_labels, batches, inner)
    plain = fresh(recipe_of("maml"), 0, NOWHERE).state
    plain = open_head(plain, recipe.head, network)
    same, _ = fine_tune(network, plain, task.support, task.support_labels, batches, recipe.adaptation)
    for name, tensor in same.params.items():
        torch.testing.assert_close(by_rates.params[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["meta-sgd", "anil", "protonet"])
def test_a_learner_of_another_kind_of_step_is_refused_by_name(
    sampler: TaskSampler, tmp_path: Path, algorithm: Algorithm
) -> None:
    with pytest.raises(ExportError, match=f"an initialization by {algorithm} cannot be exported as a learner"):
        export_learner(steps_of(algorithm, sampler)[0].initialization, tmp_path / "learner.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("sgd", torch.optim.SGD),
        ("momentum", partial(torch.optim.SGD, momentum=0.9)),
        ("nesterov", partial(torch.optim.SGD, momentum=0.9, nesterov=True)),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("adamax", torch.optim.Adamax),
        ("radam", torch.optim.RAdam),
        ("rmsprop", torch.optim.RMSprop),
        ("adagrad", torch.optim.Adagrad),
    ],
)
def test_the_outer_optimizers_are_torchs(name: Outer, theirs: Callable[..., torch.optim.Optimizer]) -> None:
    generator = torch.Generator().manual_seed(0)
    now = {"a": torch.randn(3, 2, generator=generator, dtype=torch.float64), "b": torch.ones(2, dtype=torch.float64)}
    weights = {key: tensor.clone().requires_grad_() for key, tensor in now.items()}
    optimizer, memory = theirs(list(weights.values()), lr=1.0), initial_memory(now, name)
    assert memory.keys() == {f"{part}.{key}" for part in KINDS[name][1] for key in now}
    for done in range(8):
        rate = 0.1 * (1 - done / 10)
        gradient = {key: torch.randn(t.shape, generator=generator, dtype=t.dtype) for key, t in now.items()}
        before = {key: tensor.clone() for key, tensor in {**now, **memory}.items()}
        moved, remembered = descend(now, gradient, memory, done, name, rate)
        assert all(torch.equal(tensor, before[key]) for key, tensor in {**now, **memory}.items())
        now, memory = moved, remembered
        optimizer.param_groups[0]["lr"] = rate
        for key, tensor in weights.items():
            tensor.grad = gradient[key]
        optimizer.step()
        for key, tensor in weights.items():
            torch.testing.assert_close(now[key], tensor.detach(), rtol=0, atol=0)
    assert KINDS.keys() == set(get_args(Outer))


@pytest.mark.parametrize("outer", ["momentum", "adamw", "rmsprop"])
def test_any_outer_optimizer_resumes_to_the_same_bits(sampler: TaskSampler, tmp_path: Path, outer: Outer) -> None:
    small = tiny_recipe()
    recipe = small.replace(meta=small.meta.replace(optimizer=outer, step_size=0.01, meta_steps=4))
    steps = list(meta_train(recipe, sampler))
    save_checkpoint(steps[1].initialization, tmp_path / "half")
    *_, again = meta_train(recipe, sampler, start=load_checkpoint(tmp_path / "half"))
    whole, resumed = (step.initialization.state.params for step in (steps[-1], again))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_reptile_with_adam_outside_uses_the_difference_as_a_gradient(sampler: TaskSampler) -> None:
    small = tiny_recipe()
    recipe = small.replace(meta=small.meta.replace(optimizer="adam", step_size=0.01, meta_steps=1))
    (step,) = meta_train(recipe, sampler)
    stored, ends = adapted(recipe, sampler, range(2))
    target = average(ends)
    gradient = {name: tensor - target.params[name] for name, tensor in stored.params.items()}
    expected, _ = descend(stored.params, gradient, initial_memory(stored.params, "adam"), 0, "adam", 0.01)
    found = step.initialization.state
    for name, tensor in expected.items():
        if (
            gradient[name].abs().min() > 1e-4
        ):  # Adam's first step is the sign of the gradient: of rounding, where it is 0
            torch.testing.assert_close(found.params[name], tensor)
    assert found.updates == target.updates


def test_a_loss_that_is_not_finite_stops_with_step_and_task(sampler: TaskSampler) -> None:
    recipe = recipe_of("maml")
    wild = recipe.replace(inner=recipe.inner.replace(learning_rate=1e38))
    with pytest.raises(TrainingDiverged, match=r"task \d+ is not finite at outer step 1; .* lower inner learning rate"):
        list(meta_train(wild, sampler))


def test_unknown_algorithms_and_loops_that_do_not_fit_are_told() -> None:
    with pytest.raises(ConfigError, match="no algorithm 'mmaml'; the algorithms are reptile, fomaml, maml, anil"):
        with_algorithm(preset("glyphs"), "mmaml")
    maml = with_algorithm(preset("glyphs"), "maml")
    adam = InnerLoop(learning_rate=1e-3, batch_size=5, steps=2)
    with pytest.raises(ConfigError, match=r"inner\.optimizer: expected sgd, which maml differentiates .* found adam"):
        maml.replace(inner=adam, adaptation=adam)
    with pytest.raises(ConfigError, match=r"inner\.trainable: anil moves the head, found all"):
        maml.replace(meta=maml.meta.replace(algorithm="anil"))
    with pytest.raises(ConfigError, match="a head of zeros that does not learn"):
        with_algorithm(preset("glyphs"), "boil").replace(head="zero")


def test_reptile_is_the_preset_as_it_is() -> None:
    assert with_algorithm(preset("glyphs"), "reptile") == preset("glyphs")
    fomaml = with_algorithm(preset("glyphs"), "fomaml")
    assert fomaml.inner == preset("glyphs").inner
    assert fomaml.meta.algorithm == "fomaml"


def test_a_card_names_the_algorithm(sampler: TaskSampler) -> None:
    def card(init: Initialization) -> str:
        return init.files()["README.md"].decode()

    assert "A MAML initialization" in card(steps_of("maml", sampler)[0].initialization)
    assert "a rate learned for each weight" in card(steps_of("meta-sgd", sampler)[0].initialization)


def test_a_rate_that_suits_the_outer_optimizer() -> None:
    reptile = preset("omniglot-5way").meta
    maml = with_algorithm(preset("omniglot-5way"), "maml").meta
    rates = {meta.algorithm: [with_outer(meta, o).step_size for o in ("sgd", "momentum", "adam", "adagrad")]
             for meta in (reptile, maml)}  # fmt: skip
    assert rates == {"reptile": [1, 0.1, 1e-3, 1e-2], "maml": [0.1, pytest.approx(0.01), 1e-3, 1e-2]}
    assert with_outer(reptile, "adam").final_step_size == pytest.approx(1e-4)
    assert with_outer(maml, "sgd").final_step_size == 0
