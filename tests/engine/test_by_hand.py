"""The inner loop written by hand, for machines without a compiler, against autograd in float64."""

from __future__ import annotations

import pytest
import torch

from fewshot_sdk.config.recipe import Conv4, InnerLoop
from fewshot_sdk.engine import inner_loop
from fewshot_sdk.engine.by_hand import Conv4ByHand, by_hand
from fewshot_sdk.engine.inner_loop import FineTuner, fine_tune
from fewshot_sdk.nets.network import build_network, random_params
from tests.engine.test_compiled import (
    COLOUR,
    NETWORKS,
    case,
    check_adam,
    check_gradients,
    double,
)


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_loop, "compiled", lambda *_: None)


@pytest.mark.parametrize(("name", "size"), [(name, size) for name in NETWORKS for size in (2, 10, 23)])
def test_gradients_are_those_of_float64(name: str, size: int) -> None:
    check_gradients(name, size)


@pytest.mark.parametrize(("name", "divisor"), [*((name, None) for name in NETWORKS), ("narrow", 10)])
def test_adam_continues_from_its_moments_as_in_float64(name: str, divisor: int | None) -> None:
    check_adam(name, divisor)


def test_the_same_bits_each_time_and_the_start_is_left_alone() -> None:
    network, start, images, labels = case("odd and wide")
    inner = InnerLoop(learning_rate=0.01, batch_size=5, steps=3)
    before = {name: tensor.clone() for name, tensor in start.params.items()}
    ends = [fine_tune(network, start, images, labels, torch.arange(15).view(3, 5), inner)[0] for _ in range(2)]
    assert all(torch.equal(ends[0].params[name], ends[1].params[name]) for name in before)
    assert all(torch.equal(start.params[name], tensor) for name, tensor in before.items())


def test_continuing_in_the_middle_ends_in_the_same_bits() -> None:
    network, start, images, labels = case("the paper's")
    tuner = FineTuner(network, start, InnerLoop(learning_rate=0.01, batch_size=5, steps=4))
    batches = torch.arange(20).view(4, 5)
    middle, _ = tuner.tune(images, labels, batches[:2])
    end, _ = tuner.tune(images, labels, batches[2:], middle, 2)
    assert torch.equal(end, tuner.tune(images, labels, batches)[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_packed_state_unpacks_to_itself(name: str) -> None:
    network, start, _, _ = case(name)
    loop = by_hand(network, start.params)
    assert loop is not None
    found = loop.unpack(loop.pack(start), start, start.updates)
    for part in ("params", "second_moments"):
        assert list(getattr(found, part)) == list(getattr(start, part))
        for key, tensor in getattr(start, part).items():
            assert torch.equal(getattr(found, part)[key], tensor)
            assert getattr(found, part)[key].is_contiguous()


def test_a_nan_loss_is_not_hidden_by_a_relu_or_a_pool() -> None:
    for name in ("the paper's", "the paper's for mini-ImageNet"):
        network, start, images, labels = case(name)
        start.params["norm2.bias"][:] = torch.nan
        _, losses = fine_tune(network, start, images, labels, torch.arange(5).unsqueeze(0), InnerLoop(
            learning_rate=0.1, batch_size=5, steps=1))  # fmt: skip
        assert losses.isnan().all()


def test_other_norms_and_float64_are_left_to_autograd() -> None:
    network, start, _, _ = case("narrow")
    assert isinstance(by_hand(network, start.params), Conv4ByHand)
    assert by_hand(network, double(start.params)) is None
    grouped = build_network(Conv4(filters=32, norm="group"), COLOUR, 2)
    params = random_params(grouped, 0)
    assert by_hand(grouped, params) is None
