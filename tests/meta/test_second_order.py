from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from fewshot_sdk.algorithms import Algorithm
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.recipe import InnerLoop, Recipe
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine import inner_loop
from fewshot_sdk.engine.features import features
from fewshot_sdk.engine.heads import close_head, open_head, prototypes
from fewshot_sdk.engine.inner_loop import FineTuner, cross_entropy, fine_tune, one_thread
from fewshot_sdk.meta import second_order as meta_gradients
from fewshot_sdk.meta.first_order import split_batches, target
from fewshot_sdk.meta.second_order import meta_gradient, prototype_gradient
from fewshot_sdk.nets.network import Network, build_network, random_params
from fewshot_sdk.nets.params import LearnerState, Params, learned, with_learned
from fewshot_sdk.paper.taylor import measured
from tests.conftest import tiny_recipe


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def recipe_of(algorithm: Algorithm) -> Recipe:
    recipe = with_algorithm(tiny_recipe(), algorithm)
    return recipe.replace(inner=recipe.inner.replace(steps=4, learning_rate=0.05, batch_size=6))


def stored_by(recipe: Recipe) -> tuple[Network, LearnerState]:
    """In float64, with rates that differ where they are learned."""
    network = build_network(recipe.backbone, recipe.preprocessing, 5).double()
    params = {name: tensor.double() for name, tensor in random_params(network, 2).items()}
    rates: Params = {}
    if recipe.meta.algorithm == "meta-sgd":
        generator = torch.Generator().manual_seed(3)
        rates = {n: 0.1 * torch.rand(p.shape, generator=generator, dtype=p.dtype) for n, p in params.items()}
    state = LearnerState(params=params, second_moments={}, updates=0, rates=rates)
    return network, close_head(state, recipe.head)


@pytest.mark.parametrize("algorithm", ["maml", "anil", "boil", "meta-sgd"])
def test_the_meta_gradient_agrees_with_finite_differences(sampler: TaskSampler, algorithm: Algorithm) -> None:
    """Differences of the last mini-batch's loss after the ordinary inner loop, in float64, along two directions."""
    recipe, task = recipe_of(algorithm), sampler.task(0)
    network, stored = stored_by(recipe)
    first, (last,) = split_batches(task, recipe.inner, recipe.meta)
    assert len(first) == 3

    def last_loss(values: Params) -> float:
        start = open_head(with_learned(stored, values), recipe.head, network)
        end, _ = fine_tune(network, start, task.support, task.support_labels, first, recipe.inner)
        logits = functional_call(network, end.params, (task.support[last],))
        return float(cross_entropy(logits, task.support_labels[last]))

    gradient, losses = meta_gradient(network, stored, task, recipe.inner, recipe.meta, recipe.head)
    now = learned(stored)
    assert gradient.keys() == now.keys()
    assert losses[-1].item() == pytest.approx(last_loss(now), rel=1e-9)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        direction = {n: torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in now.items()}
        there, back = ({n: t + e * direction[n] for n, t in now.items()} for e in (1e-6, -1e-6))
        measured = (last_loss(there) - last_loss(back)) / 2e-6
        assert measured == pytest.approx(sum(float((gradient[n] * direction[n]).sum()) for n in now), rel=1e-5)


@pytest.mark.parametrize("tail_shots", [0, 1])
def test_without_its_second_order_terms_maml_is_fomaml(
    sampler: TaskSampler, tail_shots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, task = recipe_of("maml").replace(head="dense"), sampler.task(0)
    network, stored = stored_by(recipe)
    meta = recipe.meta.replace(tail_shots=tail_shots)
    whole, _ = meta_gradient(network, stored, task, recipe.inner, meta, "dense")

    def cut(state: LearnerState, grads: Params, inner: InnerLoop) -> LearnerState:
        return inner_loop.update(state, {name: gradient.detach() for name, gradient in grads.items()}, inner)

    monkeypatch.setattr(meta_gradients, "update", cut)
    found, losses = meta_gradient(network, stored, task, recipe.inner, meta, "dense")
    tuner = FineTuner(network, stored, recipe.inner)
    end, theirs = target(tuner, task, recipe.inner, meta.replace(algorithm="fomaml"))
    torch.testing.assert_close(losses, theirs)
    for name, point in tuner.state(end, 0).params.items():
        torch.testing.assert_close(found[name], (stored.params[name] - point) / recipe.inner.learning_rate)
    assert any(not torch.allclose(found[name], whole[name], rtol=1e-3) for name in found)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_the_papers_taylor_coefficients_as_the_rate_goes_to_zero(k: int) -> None:
    """Source: Nichol et al. 2018, section 5.1: c0 AvgGrad - c1 AvgGradInner."""
    coefficients: dict[Algorithm, tuple[float, float]] = {
        "maml": (1, 2 * (k - 1)),
        "fomaml": (1, k - 1),
        "reptile": (k, k * (k - 1) / 2),
    }
    coefficients |= dict.fromkeys(("anil", "boil", "meta-sgd"), coefficients["maml"])  # in their own inner products
    found = measured(k, seed=0)
    for algorithm, (c0, c1) in coefficients.items():
        assert found[algorithm].c0 == pytest.approx(c0, rel=0.01), algorithm
        assert found[algorithm].c1 == pytest.approx(c1, rel=0.01), algorithm
        assert found[algorithm].rest < 0.01, algorithm


def test_protonets_gradient_is_that_of_the_class_means_it_is_adapted_by(sampler: TaskSampler) -> None:
    """The loss is the cross-entropy of the tail by `heads.prototypes`, the gradient its finite difference."""
    recipe, task = with_algorithm(tiny_recipe(), "protonet"), sampler.task(0)
    inner, meta = recipe.inner.replace(precision="float32"), recipe.meta
    network, stored = stored_by(recipe)
    gradient, (loss,) = prototype_gradient(network, stored, task, inner, meta)
    assert gradient.keys() == stored.params.keys()
    rows = torch.arange(15).view(5, 3)
    first, tail = rows[:, : -meta.tail_shots].flatten(), rows[:, -meta.tail_shots :].flatten()
    seen = features(network, {**dict(network.named_parameters()), **stored.params}, task.support)  # all together
    head = prototypes(seen[first], task.support_labels[first], 5, "conv4")
    logits = seen[tail] @ head["head.weight"].double().T + head["head.bias"].double()
    assert loss.item() == pytest.approx(cross_entropy(logits, task.support_labels[tail]).item(), abs=1e-6)

    generator = torch.Generator().manual_seed(0)
    direction = {name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in stored.params.items()}

    def at(distance: float) -> float:
        moved = {name: p + distance * direction[name] for name, p in stored.params.items()}
        return prototype_gradient(network, replace(stored, params=moved), task, inner, meta)[1].item()

    measured = (at(1e-6) - at(-1e-6)) / 2e-6
    assert sum((gradient[name] * direction[name]).sum().item() for name in direction) == pytest.approx(
        measured, rel=1e-4
    )
