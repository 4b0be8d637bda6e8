from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_sdk.algorithms import ALGORITHMS, Algorithm, first_order, moved_by
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Task, TaskSampler
from fewshot_sdk.engine.inner_loop import cross_entropy
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError, DataError, TrainingDiverged
from fewshot_sdk.meta.own_networks import NetworkStep, meta_train_network
from fewshot_sdk.meta.training import meta_train
from fewshot_sdk.nets.network import build_network, random_params
from tests.conftest import tiny_recipe


def line(i: int) -> Task:
    """Six points of y = a x + b, with a and b drawn for the task."""
    draw = torch.Generator().manual_seed(i)
    a, b = torch.randn(2, generator=draw)
    x = torch.rand(6, 1, generator=draw)
    return Task(n_way=2, support=x, support_labels=a * x + b, query=x[:0], query_labels=x[:0], seed=(i,))


def loops(algorithm: Algorithm, meta_steps: int = 4) -> tuple[InnerLoop, MetaLoop]:
    inner = InnerLoop(optimizer="sgd", learning_rate=0.1, batch_size=4, steps=3, trainable=moved_by(algorithm))
    tail = 1 if algorithm == "protonet" else 0
    meta = MetaLoop(algorithm=algorithm, tail_shots=tail, meta_steps=meta_steps, tasks_per_step=3, n_way=2, k_shot=3)
    return inner, meta if first_order(algorithm) else meta.replace(optimizer="adam", step_size=0.01)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(body=nn.Linear(1, 4), bend=nn.Tanh(), head=nn.Linear(4, 1)))


def trained(
    algorithm: Algorithm,
    start: NetworkStep | None = None,
    network: nn.Module | None = None,
    workers: Workers | None = None,
) -> list[NetworkStep]:
    inner, meta = loops(algorithm)
    network, loss = network or small(), cross_entropy if algorithm == "protonet" else F.mse_loss
    return list(meta_train_network(network, line, inner=inner, meta=meta, loss=loss, start=start, workers=workers))


def same(left: NetworkStep, right: NetworkStep) -> bool:
    return all(torch.equal(left.params[name], right.params[name]) for name in right.params)


def weights_at_the_end(workers: Workers) -> list[list[float]]:
    """The final weights, in a worker or alone; tests/engine/test_workers.py compares them."""
    return [tensor.flatten().tolist() for tensor in trained("maml", workers=workers)[-1].params.values()]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_trains_a_network_and_tasks_of_ones_own(algorithm: Algorithm) -> None:
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    steps = trained(algorithm, network=network)
    assert [step.done for step in steps] == [1, 2, 3, 4]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not same(steps[0], steps[-1])
    assert same(trained(algorithm, start=steps[1])[-1], steps[-1])
    task = line(99)
    if algorithm == "protonet":
        with pytest.raises(ConfigError, match="a protonet takes no steps on a task"):
            steps[-1].adapt(task.support, task.support_labels)
        return
    moved = steps[-1].adapt(task.support, task.support_labels)
    still = {name for name, tensor in moved.items() if torch.equal(tensor, steps[-1].params[name])}
    part = ALGORITHMS[algorithm].moves
    assert still == {name for name in moved if part and name.startswith("head") != (part == "head")}


@pytest.mark.parametrize("algorithm", ["reptile", "maml"])
def test_a_network_of_ours_learns_here_what_it_learns_there(sampler: TaskSampler, algorithm: Algorithm) -> None:
    recipe = with_algorithm(tiny_recipe(), algorithm).replace(head="dense")
    *_, there = meta_train(recipe, sampler)
    network = build_network(recipe.backbone, recipe.preprocessing, 5)
    network.load_state_dict(random_params(network, sampler.seed), strict=False)
    *_, here = meta_train_network(network, sampler.task, inner=recipe.inner, meta=recipe.meta)
    assert here.loss == there.loss
    for name, tensor in there.initialization.state.params.items():
        assert torch.equal(here.params[name], tensor)


class Restless(nn.Module):
    """A network whose state changes when it is called, or which draws random numbers."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 4), part, nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layers(x)
        return output


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (nn.BatchNorm1d(4), r"changed its 'layers\.1\.\w+' at outer step 1, in tasks 0 to 2; .*track_running_stats"),
        (nn.Dropout(0.5), "global generator at outer step 1, in tasks 0 to 2; leave dropout out"),
    ],
)
def test_a_network_that_changes_between_calls_is_told(part: nn.Module, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        trained("reptile", network=Restless(part))


def test_a_loss_that_is_no_number_stops_with_step_and_task() -> None:
    inner, meta = loops("maml")

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        return (output - labels).square().mean().log() * torch.inf

    with pytest.raises(TrainingDiverged, match=r"task 0 is not finite at outer step 1; try a lower inner"):
        next(meta_train_network(small(), line, inner=inner, meta=meta, loss=loss))


class Wearing(nn.Module):
    """A network that changes its own weights in place whenever it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.head.weight.mul_(0.9)
        output: Tensor = self.head(x)
        return output


@pytest.mark.parametrize("algorithm", ["reptile", "maml"])
def test_a_network_that_changes_its_weights_when_called_is_told(algorithm: Algorithm) -> None:
    with pytest.raises(ConfigError, match=r"changed its 'head\.weight' at outer step 1, in tasks 0 to 2"):
        trained(algorithm, network=Wearing())


class Steep(nn.Module):
    """A network with a finite loss whose gradient is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = (self.head(x).abs() * 0).sqrt()
        return output


@pytest.mark.parametrize("algorithm", ["reptile", "maml"])
def test_weights_that_are_no_numbers_stop_with_step_and_task(algorithm: Algorithm) -> None:
    with pytest.raises(TrainingDiverged, match=r"a weight, of task 0 is not finite at outer step 1"):
        trained(algorithm, network=Steep())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_frozen_and_unused_weights_stay(algorithm: Algorithm) -> None:
    network = small()
    network.get_submodule("body").requires_grad_(algorithm == "boil")
    network.register_parameter("unused", nn.Parameter(torch.ones(2)))
    end = trained(algorithm, network=network)[-1]
    assert ("body.weight" in end.params) == (algorithm == "boil")
    assert torch.equal(end.params["unused"], torch.ones(2))


def test_more_workers_than_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 workers cannot share 3 tasks"):
        trained("maml", workers=Workers(rank=0, size=4))


def test_a_tail_of_a_support_set_in_another_order_is_told() -> None:
    inner, meta = loops("protonet")
    mixed = Task(
        n_way=2, support=torch.rand(6, 1), support_labels=torch.tensor([0, 1, 0, 1, 0, 1]), query=torch.rand(0, 1),
        query_labels=torch.zeros(0), seed=(0,),
    )  # fmt: skip
    with pytest.raises(DataError, match="must be grouped by class"):
        next(meta_train_network(small(), lambda _: mixed, inner=inner, meta=meta))


def test_a_protonet_takes_no_loss_of_ones_own() -> None:
    inner, meta = loops("protonet")
    with pytest.raises(ConfigError, match="loss: protonet has its own"):
        next(meta_train_network(small(), line, inner=inner, meta=meta, loss=F.mse_loss))


def test_loops_that_do_not_fit_are_told() -> None:
    inner, meta = loops("anil")
    nameless = nn.Sequential(nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="anil: the inner steps move nothing; expected a last layer named `head`"):
        next(meta_train_network(nameless, line, inner=inner, meta=meta))
    with pytest.raises(ConfigError, match="anil moves the head, found all"):
        next(meta_train_network(small(), line, inner=inner.replace(trainable="all"), meta=meta))
