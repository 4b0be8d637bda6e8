"""The compiled meta-gradient against PyTorch's, through the same inner steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fewshot_sdk.algorithms import Algorithm, Part, moved_by
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Task
from fewshot_sdk.engine.compiled import CompiledConv4, compiled
from fewshot_sdk.engine.heads import Head, close_head
from fewshot_sdk.engine.inner_loop import cross_entropy, loss_and_grads
from fewshot_sdk.meta import second_order as meta_gradients
from fewshot_sdk.meta.second_order import meta_gradient
from fewshot_sdk.nets.network import Network
from fewshot_sdk.nets.params import LearnerState, Params
from tests.engine.test_compiled import case, double, in_float64, moving

pytestmark = pytest.mark.usefixtures("c_code")

SECOND_ORDER: tuple[Algorithm, ...] = ("maml", "anil", "boil", "meta-sgd")


def task_of(name: str, algorithm: Algorithm, head: Head) -> tuple[Network, LearnerState, Task]:
    """A network, its stored state, with different rates where they are learned, and a task of noise images."""
    network, start, images, _ = case(name)
    generator = torch.Generator().manual_seed(1)
    rates: Params = {}
    if algorithm == "meta-sgd":
        rates = {key: 0.1 * torch.rand(p.shape, generator=generator) for key, p in start.params.items()}
    support = images[torch.randint(len(images), (5 * network.n_way,), generator=generator)]
    labels = torch.arange(network.n_way).repeat_interleave(5)
    nothing = {"query": images[:0], "query_labels": labels[:0]}
    task = Task(n_way=network.n_way, support=support, support_labels=labels, **nothing, seed=(0,))
    return network, close_head(replace(start, second_moments={}, rates=rates), head), task


def loops(algorithm: Algorithm, n_way: int, steps: int = 4, part: Part | None = None) -> tuple[InnerLoop, MetaLoop]:
    """Two images of each class in the last loss; mini-batches of a different size before."""
    inner = InnerLoop(optimizer="sgd", learning_rate=0.05, batch_size=5, steps=steps)
    meta = MetaLoop(algorithm=algorithm, tail_shots=2, meta_steps=1, tasks_per_step=1, n_way=n_way, k_shot=5)
    return inner.replace(trainable=part or moved_by(algorithm)), meta


def error(found: Params, exact: Params) -> float:
    """Relative error of all tensors together."""
    return float(_flat({key: found[key].double() - t for key, t in exact.items()}).norm() / _flat(exact).norm())


def _flat(params: Params) -> Tensor:
    return torch.cat([params[name].flatten() for name in sorted(params)])


KINDS: list[tuple[Algorithm, Head]] = [
    *((algorithm, "dense") for algorithm in SECOND_ORDER),
    ("maml", "zero"),
    ("anil", "zero"),
    ("meta-sgd", "zero"),
]
WIDE = {("the paper's", "maml", "dense"), ("the paper's for mini-ImageNet", "anil", "zero"),
        ("the paper's for mini-ImageNet", "meta-sgd", "zero")}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "algorithm", "head"),
    [
        pytest.param(name, *kind, marks=[] if name == "narrow" or (name, *kind) in WIDE else pytest.mark.slow)
        for name in ("the paper's", "the paper's for mini-ImageNet", "narrow")
        for kind in KINDS
    ],
)
def test_the_meta_gradient_is_that_of_float64(
    name: str, algorithm: Algorithm, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all learned tensors, both kinds of downsampling, colour and grey; nearly as precise as PyTorch's own."""
    network, stored, task = task_of(name, algorithm, head)
    inner, meta = loops(algorithm, network.n_way)
    gradient, losses = meta_gradient(network, stored, task, inner, meta, head)
    exact, exact_losses = _exact(network, stored, task, inner, meta, head)
    torch.testing.assert_close(losses.double(), exact_losses, rtol=1e-4, atol=1e-5)
    assert gradient.keys() == exact.keys()
    for key, expected in moving(exact).items():
        assert float((gradient[key].double() - expected).norm() / (expected.norm() + 1e-3)) < 1e-4, key
    monkeypatch.setattr(meta_gradients, "compiled", lambda *_: None)
    plain, _ = meta_gradient(network, stored, task, inner, meta, head)
    assert error(gradient, exact) < 10 * error(plain, exact) + 1e-6


@pytest.mark.parametrize("name", ["odd and wide", "wider than a tile"])
def test_widths_that_no_vector_divides_and_steps_of_the_norms_alone(name: str) -> None:
    network, stored, task = task_of(name, "maml", "zero")
    inner, meta = loops("maml", network.n_way, steps=3, part="norm")
    gradient, _ = meta_gradient(network, stored, task, inner, meta, "zero")
    assert error(gradient, _exact(network, stored, task, inner, meta, "zero")[0]) < 1e-4


def test_rates_of_what_does_not_move_have_no_gradient() -> None:
    network, stored, task = task_of("narrow", "meta-sgd", "dense")
    inner, meta = loops("meta-sgd", network.n_way, part="head")
    gradient, _ = meta_gradient(network, stored, task, inner, meta, "dense")
    assert error(gradient, _exact(network, stored, task, inner, meta, "dense")[0]) < 1e-4
    assert not gradient["rate.conv4.weight"].any()
    assert gradient["rate.head.weight"].any()


def test_without_a_step_before_the_last_loss_it_is_the_gradient() -> None:
    network, stored, task = task_of("narrow", "maml", "dense")
    inner, meta = loops("maml", network.n_way, steps=1)
    gradient, losses = meta_gradient(network, stored, task, inner, meta, "dense")
    tail = torch.arange(5 * network.n_way).view(-1, 5)[:, 3:].flatten()
    loss, expected = loss_and_grads(network, stored.params, task.support[tail], task.support_labels[tail])
    torch.testing.assert_close(losses, loss.unsqueeze(0))
    torch.testing.assert_close(moving(gradient), moving(expected), rtol=1e-3, atol=1e-5)


def test_the_same_bits_each_time_whatever_came_between() -> None:
    network, stored, task = task_of("the paper's for mini-ImageNet", "maml", "dense")
    inner, meta = loops("maml", network.n_way)
    before = {name: tensor.clone() for name, tensor in stored.params.items()}
    gradient, losses = meta_gradient(network, stored, task, inner, meta, "dense")
    meta_gradient(network, stored, task, inner.replace(batch_size=14, steps=6), meta, "dense")  # in more memory
    again, losses_again = meta_gradient(network, stored, task, inner, meta, "dense")
    assert all(torch.equal(again[name], tensor) for name, tensor in gradient.items())
    assert torch.equal(losses_again, losses)
    assert all(torch.equal(stored.params[name], tensor) for name, tensor in before.items())


def test_another_loss_or_float64_goes_through_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    network, stored, task = task_of("narrow", "maml", "dense")
    inner, meta = loops("maml", network.n_way)
    gradient, _ = meta_gradient(network, stored, task, inner, meta, "dense")
    monkeypatch.setattr(CompiledConv4, "gradients", refuse)
    twice, _ = meta_gradient(network, stored, task, inner, meta, "dense", lambda *both: 2 * cross_entropy(*both))
    _exact(network, stored, task, inner, meta, "dense")
    assert error(twice, double(gradient)) > 0.1
    with pytest.raises(AssertionError):
        meta_gradient(network, stored, task, inner, meta, "dense")


def test_rows_and_labels_outside_memory_are_refused() -> None:
    network, stored, task = task_of("narrow", "maml", "dense")
    compiled_network = compiled(network, stored.params)
    assert compiled_network is not None
    rows, labels, outside = torch.tensor([[0, 1]]), task.support_labels, torch.tensor([0, len(task.support)])
    for first, last, named in ((rows, outside, labels), (outside[None], rows[0], labels), (rows, rows[0], labels + 1)):
        with pytest.raises(ValueError, match="expected"):
            compiled_network.gradients(stored, dict(stored.params), task.support, named, first, last)


def _exact(
    network: Network, stored: LearnerState, task: Task, inner: InnerLoop, meta: MetaLoop, head: Head
) -> tuple[Params, Tensor]:
    exact, start = in_float64(network, stored)
    return meta_gradient(exact, replace(start, rates=double(stored.rates)), task, inner, meta, head)
