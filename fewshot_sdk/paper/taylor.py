"""The direction of an outer step, to leading order in the inner rate: the paper's analysis, measured.

For k steps at rate a, E[g] = c0 AvgGrad - c1 AvgGradInner + O(a^2). AvgGradInner is the gradient of the inner product
of two mini-batches' gradients: ascending it makes what is learned from one help with the other. Where the steps move
only some of the weights, or each at its own rate, the inner product is weighted accordingly: g P g, P diagonal.
Source: Nichol et al. 2018, section 5.1; for ANIL, BOIL and Meta-SGD the same expansion, with I - a H P for I - a H.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_sdk.algorithms import ALGORITHMS, Algorithm, first_order, moved_by
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Task, mini_batches
from fewshot_sdk.engine.inner_loop import FineTuner, cross_entropy, moving, one_thread
from fewshot_sdk.meta.first_order import target
from fewshot_sdk.meta.second_order import meta_gradient
from fewshot_sdk.nets.params import LearnerState, flatten, unflatten
from fewshot_sdk.paper.experiment import Experiment, Numbers
from fewshot_sdk.paper.figures import SEEDS, Figure, Line

KS, SIZE = (2, 3, 4, 5), 4
COMPARED: tuple[Algorithm, ...] = ("anil", "boil", "meta-sgd", "maml", "fomaml", "reptile")
IN_THE_PAPER = ("maml", "fomaml", "reptile")


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """c0, and c1 divided by the rate; rest: the share of the second term that AvgGradInner does not explain."""

    c0: float
    c1: float
    rest: float


def theory(algorithm: Algorithm, k: int) -> tuple[float, float]:
    """The paper's c0 and c1 / a for k inner steps; MAML's hold for its whole family."""
    if algorithm == "reptile":
        return k, k * (k - 1) / 2
    return 1, k - 1 if first_order(algorithm) else 2 * (k - 1)


def measured(k: int, seed: int, rate: float = 1e-5) -> dict[Algorithm, Coefficients]:
    """The coefficients by algorithm: a small smooth network in float64, k mini-batches of one task, a rate near 0.

    Over the orders used, every mini-batch is equally often at each place, and before any other as often as after it, so
    the mean over the orders is the expectation.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = OrderedDict(body=nn.Linear(3, 5), tanh=nn.Tanh(), head=nn.Linear(5, 2))
    network = nn.Sequential(layers).double()
    weights = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in network.named_parameters()}
    start = LearnerState(params=weights, second_moments={}, updates=0)
    x = torch.randn(k, SIZE, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (k, SIZE), generator=generator)
    uneven = {n: 2 * torch.rand(p.shape, generator=generator, dtype=p.dtype) for n, p in weights.items()}
    gradients_of = _Gradients(network, start)
    gradients = [gradients_of(*batch) for batch in zip(x, labels, strict=True)]
    average = torch.stack(gradients).mean(0).detach()
    rotations = [torch.arange(k).roll(shift) for shift in range(k)]
    tasks = [_task(x[order], labels[order]) for each in rotations for order in (each, each.flip(0))]
    found = {}
    for algorithm in COMPARED:
        moved, learns_rates = moving(network, weights, moved_by(algorithm)), ALGORITHMS[algorithm].learns_rates
        shares = {n: uneven[n] if learns_rates else torch.full_like(p, n in moved) for n, p in weights.items()}
        weighting = flatten(replace(start, params=shares))
        products = [a @ (weighting * b) for a, b in itertools.combinations(gradients, 2)]
        (of_products,) = torch.autograd.grad(torch.stack(products).mean() / 2, gradients_of.here, retain_graph=True)
        inner = InnerLoop(optimizer="sgd", learning_rate=rate, batch_size=SIZE, steps=k, trainable=moved_by(algorithm))
        meta = MetaLoop(algorithm=algorithm, meta_steps=1, tasks_per_step=1, n_way=2, k_shot=k * SIZE)
        rates = {n: rate * share for n, share in shares.items()} if learns_rates else {}
        directions = [_direction(network, replace(start, rates=rates), task, inner, meta) for task in tasks]
        mean = torch.stack(directions).mean(0)
        second = (theory(algorithm, k)[0] * average - mean) / rate
        c1 = float(second @ of_products / of_products.square().sum())
        rest = float((second - c1 * of_products).norm() / second.norm())
        found[algorithm] = Coefficients(c0=float(mean @ average / average.square().sum()), c1=c1, rest=rest)
    return found


class _Gradients:
    """The gradient of a mini-batch's loss at the start, as a vector that can be differentiated again."""

    def __init__(self, network: nn.Module, start: LearnerState) -> None:
        self._network, self._start = network, start
        self.here = flatten(start).requires_grad_()

    def __call__(self, x: Tensor, labels: Tensor) -> Tensor:
        params = unflatten(self.here, self._start, 0).params
        loss = cross_entropy(functional_call(self._network, params, (x,)), labels)
        (gradient,) = torch.autograd.grad(loss, self.here, create_graph=True)
        return gradient


def _task(x: Tensor, labels: Tensor) -> Task:
    """The task whose mini-batches are these, in this order: its images are placed where the schedule will take them."""
    rows, n = mini_batches(len(x) * SIZE, SIZE, len(x), (0,)), len(x) * SIZE
    support, targets = torch.empty(n, x.shape[-1], dtype=x.dtype), torch.empty(n, dtype=torch.int64)
    support[rows], targets[rows] = x, labels
    return Task(n_way=2, support=support, support_labels=targets, query=x[:0], query_labels=targets[:0], seed=(0,))


def _direction(network: nn.Module, start: LearnerState, task: Task, inner: InnerLoop, meta: MetaLoop) -> Tensor:
    """The outer step's direction as a vector: MAML's gradient, or the difference from start to target over the rate."""
    if not first_order(meta.algorithm):
        gradient, _ = meta_gradient(network, start, task, inner, meta, None)
        return flatten(replace(start, params={name: gradient[name] for name in start.params}))
    return (flatten(start) - target(FineTuner(network, start, inner), task, inner, meta)[0]) / inner.learning_rate


def taylor(command: str, seeds: Sequence[int] = SEEDS) -> Experiment:
    """c1 / a against k: ours and the paper's."""
    trials = {f"{k} steps, seed {seed}": partial(_numbers, k, seed) for k in KS for seed in seeds}

    def figure(numbers: Mapping[str, Numbers]) -> Figure:
        found = {name: _coefficients(each) for name, each in numbers.items()}
        lines, worst = [], 0.0
        for algorithm in COMPARED:
            c1 = tuple(tuple(found[f"{k} steps, seed {seed}"][algorithm].c1 for k in KS) for seed in seeds)
            lines.append(Line(name=algorithm, values=c1))
            if algorithm in IN_THE_PAPER:
                expected_c1 = tuple(theory(algorithm, k)[1] for k in KS)
                lines.append(Line(name=f"{algorithm}, paper", values=(expected_c1,), theory=True))
            for k, seed in itertools.product(KS, seeds):
                at, expected = found[f"{k} steps, seed {seed}"][algorithm], theory(algorithm, k)
                worst = max(worst, abs(at.c0 / expected[0] - 1), abs(at.c1 / expected[1] - 1), at.rest)
        holds = worst < 0.01
        return Figure(
            name="taylor",
            command=command,
            seeds=tuple(seeds),
            across="inner steps k",
            up="c1 / a, weight of the inner products",
            x=KS,
            lines=tuple(lines),
            holds=holds,
            verdict=(
                f"The paper's coefficients {'hold' if holds else 'do NOT hold'}: c0, c1 and what the two terms leave "
                f"unexplained are all within {worst:.2%} of theory (test: 1 %), for k = 2 to 5, {len(seeds)} random "
                "networks of tanh units in float64 and inner rate 1e-5. Those of ANIL, BOIL and Meta-SGD are MAML's: "
                "their inner products are of the gradients that the inner steps follow, each weighted by its rate."
            ),
        )

    return Experiment(trials=trials, figure=figure, about="measuring random networks in float64")


def _numbers(k: int, seed: int) -> Numbers:
    with one_thread():
        found = measured(k, seed)
    return [number for algorithm in COMPARED for number in astuple(found[algorithm])]


def _coefficients(numbers: Numbers) -> dict[Algorithm, Coefficients]:
    """The inverse of `_numbers`: its numbers by algorithm."""
    threes = (numbers[i : i + 3] for i in range(0, len(numbers), 3))
    return {
        algorithm: Coefficients(c0=c0, c1=c1, rest=rest)
        for algorithm, (c0, c1, rest) in zip(COMPARED, threes, strict=True)
    }
