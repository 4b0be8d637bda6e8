from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_sdk.adaptation.methods import Adapter, Strategy
from fewshot_sdk.artifacts.initialization import Initialization, from_weights
from fewshot_sdk.config.recipe import EfficientNet
from fewshot_sdk.data.tasks import TaskSampler, mini_batches
from fewshot_sdk.engine.features import features, features_of_views
from fewshot_sdk.engine.forward import Forward
from fewshot_sdk.engine.heads import PENALTY, probe, prototypes
from fewshot_sdk.engine.inner_loop import fine_tune, one_thread
from fewshot_sdk.nets.network import build_network
from tests.conftest import tiny_recipe
from tests.nets.test_efficientnet import PHOTO, even_weights

PROTOTYPES, PROBE = Strategy(method="prototypes"), Strategy(method="probe")
STEPS = tuple(Strategy(method="reptile", steps=steps) for steps in (2, 5, 9))


@pytest.fixture
def task(sampler: TaskSampler) -> tuple[Tensor, Tensor]:
    found = sampler.task(0)
    return found.support, found.support_labels


def test_prototypes_take_the_nearest_class_mean(init: Initialization, task: tuple[Tensor, Tensor]) -> None:
    images, targets = task
    adapter = Adapter(init, 5)
    ((_, params),) = adapter.learn(images, targets, [PROTOTYPES], 0)
    seen = features(adapter.network, params, images)
    means = torch.stack([seen[targets == label].mean(0) for label in range(5)])
    nearest = torch.cdist(seen.double(), means.double()).argmin(1)
    logits = seen @ params["head.weight"].T + params["head.bias"]
    assert torch.equal(logits.argmax(1), nearest)
    np.testing.assert_allclose(Forward(adapter.network, params).apart(images, images), logits, atol=1e-3, rtol=1e-3)


def test_only_the_head_differs_from_the_initialization_without_steps(
    init: Initialization, task: tuple[Tensor, Tensor]
) -> None:
    for _, params in Adapter(init, 5).learn(*task, [PROTOTYPES, PROBE], 0):
        for name, tensor in init.state.params.items():
            assert torch.equal(params[name], tensor)
        assert params["head.weight"].abs().max() > 0


def test_the_probe_is_where_the_penalized_loss_is_flat() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(4).repeat(6)
    seen = torch.randn(24, 8, generator=generator) + torch.eye(4, 8)[targets] + 5
    head = probe(seen, targets, 4)
    weight, bias = (head[name].double().requires_grad_() for name in ("head.weight", "head.bias"))
    logits = (seen - seen.mean(0)).double() @ weight.T + bias + (weight @ seen.mean(0).double()).detach()
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") + PENALTY / 2 * weight.square().sum()
    gradients = torch.autograd.grad(loss, (weight, bias))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 0.02


def test_a_longer_run_goes_on_from_a_shorter_one_to_the_same_weights(
    init: Initialization, task: tuple[Tensor, Tensor]
) -> None:
    images, targets = task
    together = dict(Adapter(init, 5).learn(images, targets, STEPS, 3))
    for strategy in STEPS:
        ((_, alone),) = Adapter(init, 5).learn(images, targets, [strategy], 3)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[strategy][name], tensor, rtol=1e-5, atol=1e-6)


def test_reptile_is_the_inner_loop(init: Initialization, task: tuple[Tensor, Tensor]) -> None:
    images, targets = task
    from fewshot_sdk.engine.heads import open_head

    adapter = Adapter(init, 5)
    start = open_head(init.state, "zero", adapter.network)
    inner = init.recipe.adaptation.replace(steps=5)
    batches = mini_batches(len(targets), inner.batch_size, 5, (3,))
    expected, _ = fine_tune(adapter.network, start, images, targets, batches, inner)
    ((_, found),) = adapter.learn(images, targets, [STEPS[1]], 3)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.params.items())


def test_the_order_of_the_pictures_moves_no_prototype() -> None:
    seen, targets = torch.randn(20, 6, generator=torch.Generator().manual_seed(1)), torch.arange(4).repeat(5)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    for name, tensor in prototypes(seen, targets, 4, "conv4").items():
        torch.testing.assert_close(prototypes(seen[order], targets[order], 4, "conv4")[name], tensor)


@pytest.mark.parametrize("summary", ["mean", "statistics"])
def test_steps_on_the_tail_begin_at_the_head_of_a_probe(init: Initialization, summary: str) -> None:
    """By the network's own summary, whether or not probes prefer another one."""
    photo = of_tails(init, summary)
    adapter = Adapter(photo, 3)
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(3).repeat_interleave(2)
    none, some = Strategy(method="reptile", rate=0.1), Strategy(method="reptile", steps=2, rate=0.1)
    with one_thread():
        start, end = (dict(adapter.learn(images, targets, [each], 0))[each] for each in (none, some))
        (seen,) = features_of_views([adapter.network], photo.state.params, images)
        known, outputs = adapter.features(images), adapter.before_tail(images)
        ((_, again),) = adapter.learn(images, targets, [some], 0, known, 1, outputs)
        head = probe(seen.flatten(0, 1), targets.repeat(6), 3)
    assert all(torch.equal(start[name], tensor) for name, tensor in head.items())
    moved = {name.partition(".")[0] for name, tensor in end.items() if not torch.equal(tensor, start[name])}
    assert moved == {"stage7", "top", "head"}
    assert all(torch.equal(again[name], tensor) for name, tensor in end.items())


def test_class_means_and_probes_beside_steps_on_the_tail_are_those_without_them(init: Initialization) -> None:
    photo = of_tails(init, "statistics")
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    targets, steps = torch.arange(2).repeat(2), Strategy(method="reptile", steps=1, rate=0.1)
    with one_thread():
        together = dict(Adapter(photo, 2).learn(images, targets, [steps, PROBE, PROTOTYPES], 0))
        apart = dict(Adapter(photo, 2).learn(images, targets, [PROTOTYPES, PROBE], 0))
    assert list(together) == [PROTOTYPES, PROBE, steps]
    for strategy, params in apart.items():
        assert all(torch.equal(together[strategy][name], tensor) for name, tensor in params.items())


def of_tails(init: Initialization, summary: str) -> Initialization:
    """An untrained EfficientNet of 32 pixels whose steps move the tail."""
    recipe = tiny_recipe(preprocessing=PHOTO, backbone=EfficientNet.model_validate({"summary": summary}))
    sgd = recipe.adaptation.replace(optimizer="sgd", learning_rate=0.01, batch_size=3, trainable="tail")
    recipe = recipe.replace(inner=recipe.inner.replace(optimizer="sgd"), adaptation=sgd)
    network = build_network(recipe.backbone, PHOTO, 3)
    return from_weights(recipe, even_weights(network), init.provenance)
