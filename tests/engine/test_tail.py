from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from fewshot_sdk.config.recipe import EfficientNet, InnerLoop
from fewshot_sdk.data.tasks import mini_batches
from fewshot_sdk.engine.features import seen_as
from fewshot_sdk.engine.inner_loop import fine_tune, moving, one_thread
from fewshot_sdk.engine.tail import _Tail, before_tail, tune_tail
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.nets.network import Network, build_network
from fewshot_sdk.nets.params import LearnerState, Params
from tests.conftest import tiny_recipe
from tests.nets.test_efficientnet import PHOTO, even_weights

SGD = InnerLoop(optimizer="sgd", learning_rate=0.01, batch_size=4, steps=3, trainable="tail")
TARGETS = torch.arange(3).repeat(3)
Summary = Literal["mean", "roots", "statistics"]


def network(summary: Summary = "statistics") -> Network:
    return build_network(EfficientNet(summary=summary), PHOTO, 3)


def state(params: Params, adam: bool = False) -> LearnerState:
    moments = {name: torch.full_like(tensor, 1e-4) for name, tensor in params.items()} if adam else {}
    return LearnerState(params=params, second_moments=moments, updates=2)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (9, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("summary", ["mean", "roots", "statistics"])
def test_the_tail_on_the_outputs_before_it_is_the_whole_network(images: Tensor, summary: Summary) -> None:
    net = network(summary)
    params = even_weights(net)
    with one_thread(), torch.no_grad():
        outputs = before_tail(net, params, images)
        assert {len(output) for output in outputs} == {6}
        for i, view in enumerate(net.backbone.views):
            tail = {name: params[name] for name in moving(net, params, "tail")}
            found = functional_call(_Tail(net), tail, ([output[i] for output in outputs],))
            expected = functional_call(net, params, (seen_as(images, view),))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cores", [1, 3])
def test_any_number_of_cores_gives_the_same_bits(images: Tensor, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    params = even_weights(network())
    with one_thread():
        monkeypatch.setattr("fewshot_sdk.engine.processors.cores", lambda: 1)
        expected = before_tail(network(), params, images)
        monkeypatch.setattr("fewshot_sdk.engine.processors.cores", lambda: cores)
        found = before_tail(network(), params, images)
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "inner",
    [SGD, SGD.replace(loss_divisor=3), SGD.replace(optimizer="adam", learning_rate=1e-3)],
    ids=["SGD", "sums", "Adam"],
)
def test_in_one_view_it_is_the_inner_loop(images: Tensor, inner: InnerLoop) -> None:
    net = network()
    start = state(even_weights(net), inner.optimizer == "adam")
    batches = mini_batches(9, inner.batch_size, inner.steps, (0,))
    with one_thread():
        outputs = [output[:1] for output in before_tail(net, start.params, images)]
        found, losses = tune_tail(net, start, outputs, TARGETS, batches, inner, 0)
        expected, wanted = fine_tune(net, start, images, TARGETS, batches, inner)
    torch.testing.assert_close(losses, wanted, rtol=1e-3, atol=1e-4)
    assert found.updates == expected.updates == 5
    for name, tensor in expected.params.items():
        torch.testing.assert_close(found.params[name], tensor, rtol=1e-3, atol=1e-4)


def test_only_the_tail_and_the_head_move_and_the_same_seed_gives_the_same_bits(images: Tensor) -> None:
    net = network("mean")
    start = state(even_weights(net))
    batches = mini_batches(9, 4, 2, (0,))
    with one_thread():
        outputs = before_tail(net, start.params, images)
        first, again, other = (tune_tail(net, start, outputs, TARGETS, batches, SGD, seed)[0] for seed in (0, 0, 1))
    moved = {name for name, tensor in first.params.items() if not torch.equal(tensor, start.params[name])}
    assert {name.partition(".")[0] for name in moved} == {"stage7", "top", "head"}
    assert moved == set(moving(net, start.params, "tail"))
    assert all(torch.equal(again.params[name], tensor) for name, tensor in first.params.items())
    assert not torch.equal(other.params["head.weight"], first.params["head.weight"])  # other views


def test_no_step_and_no_rate_leave_the_weights_alone(images: Tensor) -> None:
    net = network("mean")
    start = state(even_weights(net))
    with one_thread():
        outputs = before_tail(net, start.params, images)
        end, losses = tune_tail(net, start, outputs, TARGETS, torch.empty(0, 4, dtype=torch.int64), SGD, 0)
    assert len(losses) == 0
    assert all(torch.equal(end.params[name], tensor) for name, tensor in start.params.items())


def test_each_picture_is_drawn_in_every_view(images: Tensor) -> None:
    """A view that is all zeros before the tail shows in the gradient of the head only if it is drawn."""
    net = network("mean")
    start = state(even_weights(net))
    rows = torch.arange(9).repeat(4).unsqueeze(0)
    with one_thread():
        outputs = before_tail(net, start.params, images)
        end, _ = tune_tail(net, start, outputs, TARGETS, rows, SGD, 0)
        for view in range(6):
            without = [output.clone() for output in outputs]
            for output in without:
                output[view] = 0
            other, _ = tune_tail(net, start, without, TARGETS, rows, SGD, 0)
            assert not torch.equal(other.params["head.weight"], end.params["head.weight"])


def test_steps_on_the_same_pictures_lower_the_loss(images: Tensor) -> None:
    net = network()
    start = state(even_weights(net))
    with one_thread():
        outputs = [output[:1] for output in before_tail(net, start.params, images)]
        inner = SGD.replace(learning_rate=1e-4)
        _, losses = tune_tail(net, start, outputs, TARGETS, torch.arange(9).expand(4, 9), inner, 0)
    assert losses.tolist() == sorted(losses.tolist(), reverse=True)


def test_a_network_without_a_tail_is_refused_in_one_sentence() -> None:
    recipe = tiny_recipe()
    net = build_network(recipe.backbone, recipe.preprocessing, 5)
    with pytest.raises(ConfigError, match=r"^trainable: only an efficientnet network has a tail; take all, head"):
        moving(net, dict(net.named_parameters()), "tail")
    with pytest.raises(ConfigError, match=r"^trainable: a conv4 network has no tail, expected all, head, body or norm"):
        recipe.replace(adaptation=recipe.adaptation.replace(trainable="tail"))
    with pytest.raises(ConfigError, match=r"^trainable: a conv4 network has no tail"):
        recipe.replace(inner=recipe.inner.replace(trainable="tail"))


def test_second_moments_of_layers_before_the_tail_stay(images: Tensor) -> None:
    net = network("mean")
    start = state(even_weights(net), adam=True)
    inner = SGD.replace(optimizer="adam", learning_rate=1e-3)
    with one_thread():
        outputs = before_tail(net, start.params, images)
        end, _ = tune_tail(net, start, outputs, TARGETS, torch.arange(9).unsqueeze(0), inner, 0)
    assert end.second_moments.keys() == start.second_moments.keys()
    assert torch.equal(end.second_moments["stem.conv.weight"], start.second_moments["stem.conv.weight"])
