"""Meta-training speed: the usual PyTorch loop and ours, interleaved in one run on the same tasks.

    python -m benchmarks.meta_training [--rounds N] [--steps N] [--workers N] [--precision P] [--json]

The preset is omniglot-5way, the pictures are glyphs (nothing to download; the arithmetic is the same).
The usual loop: deep-copy the network, make an Adam, take eager steps with all threads, average. Its Adam
continues from the shared second moments, as ours does, so that both must end in the same weights.
A round times both, after each other, and the fastest float32 product of oneDNN and OpenBLAS on all cores;
the ratio is that of the rounds' times, the share of the peak that of the fastest product in this run.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fewshot_sdk.backbones import build_network, random_params
from fewshot_sdk.checkpoint import Initialization, fresh
from fewshot_sdk.config import InnerLoop, Recipe
from fewshot_sdk.glyphs import glyphs
from fewshot_sdk.inner_loop import loss_and_grads
from fewshot_sdk.native import made_with
from fewshot_sdk.params import LearnerState, Params
from fewshot_sdk.presets import preset
from fewshot_sdk.records import Provenance
from fewshot_sdk.tasks import Task, TaskSampler, mini_batches
from fewshot_sdk.team import Team, run_team
from fewshot_sdk.training import MetaStep, meta_train

CORES = os.cpu_count() or 1


def stream(recipe: Recipe) -> TaskSampler:
    """The tasks that both loops train on."""
    data = glyphs(200, 20, recipe.preprocessing, seed=1)
    return TaskSampler(data=data, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot)


def usual_adaptation(
    network: nn.Module, start: LearnerState, task: Task, inner: InnerLoop
) -> tuple[nn.Module, torch.optim.Adam]:
    """A copy of the network after the inner loop on one task, and its Adam, as it is usually written."""
    learner = copy.deepcopy(network)
    named = dict(learner.named_parameters())
    adam = torch.optim.Adam(named.values(), lr=inner.learning_rate, betas=(0.0, inner.beta2), eps=inner.epsilon)
    for name, parameter in named.items():
        moment = start.second_moments[name].clone()
        step = torch.tensor(float(start.updates))
        adam.state[parameter] = {"step": step, "exp_avg": torch.zeros_like(moment), "exp_avg_sq": moment}
    for batch in mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed):
        adam.zero_grad()
        F.cross_entropy(learner(task.support[batch]), task.support_labels[batch]).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return learner, adam


def usual_step(
    recipe: Recipe, tasks: TaskSampler, state: LearnerState, done: int, dtype: torch.dtype = torch.float32
) -> LearnerState:
    """One outer step as it is usually written. Also in float64, for comparing weights: in float32 a rounding
    that moves an activation across the kink of a ReLU changes a weight by some 0.001, in either loop.
    """
    meta, inner = recipe.meta, recipe.inner
    network = build_network(recipe.backbone, recipe.preprocessing, meta.n_way).to(dtype)
    state = LearnerState(
        params={name: tensor.to(dtype) for name, tensor in state.params.items()},
        second_moments={name: tensor.to(dtype) for name, tensor in state.second_moments.items()},
        updates=state.updates,
    )
    network.load_state_dict(state.params, strict=False)
    sums = {name: torch.zeros_like(tensor) for name, tensor in state.params.items()}
    squares = {name: torch.zeros_like(tensor) for name, tensor in state.params.items()}
    for index in range(done * meta.tasks_per_step, (done + 1) * meta.tasks_per_step):
        task = tasks.task(index)
        learner, adam = usual_adaptation(network, state, task, inner)
        for name, parameter in learner.named_parameters():
            sums[name] += parameter.detach() / meta.tasks_per_step
            squares[name] += adam.state[parameter]["exp_avg_sq"] / meta.tasks_per_step
    step_size = 1 - done / meta.meta_steps
    moved = {name: tensor.lerp(sums[name], step_size) for name, tensor in state.params.items()}
    return LearnerState(params=moved, second_moments=squares, updates=state.updates + inner.steps)


def flops_per_step(recipe: Recipe, tasks: TaskSampler) -> int:
    """Multiplications and additions of one outer step, counted from the operators that run."""
    network = build_network(recipe.backbone, recipe.preprocessing, recipe.meta.n_way)
    task, size = tasks.task(0), recipe.inner.batch_size
    with FlopCounterMode(display=False) as counter:
        loss_and_grads(network, random_params(network, 0), task.support[:size], task.support_labels[:size])
    counted: int = counter.get_total_flops()
    return counted * recipe.inner.steps * recipe.meta.tasks_per_step


def seconds(work: Callable[[], object]) -> float:
    """How long it took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak() -> float:
    """The fastest float32 product of oneDNN and OpenBLAS now, on all cores, in FLOP/s."""
    n = 1536
    a, b = torch.randn(n, n), torch.randn(n, n)
    x, y = a.numpy(), b.numpy()
    products: list[Callable[[], object]] = [
        lambda: torch.mm(a, b),
        lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""),
        lambda: np.matmul(x, y),
    ]
    return max(2 * n**3 / seconds(product) for product in products for _ in range(4))


def apart(ours: Params, theirs: Params) -> float:
    """The largest difference of a weight; biases under a batch norm, whose gradient is rounding, left out."""
    names = [name for name in ours if not (name.startswith("conv") and name.endswith("bias"))]
    return max(float((ours[name] - theirs[name]).abs().max()) for name in names)


def start_of(recipe: Recipe, tasks: TaskSampler) -> Initialization:
    """Random weights, with second moments as after some training: from none, Adam moves a weight by the
    sign of its gradient, which for gradients near zero is rounding, and no two programs agree. They are large,
    so that weights move little: else one activation that rounding moves across a kink of a ReLU shows in all.
    """
    made = Provenance(
        command="", seed=0, meta_steps_done=0, data_sha256=tasks.data.digest, seconds=0, versions=made_with()
    )
    init = fresh(recipe, 0, made)
    moments = {name: torch.full_like(tensor, 1e-2) for name, tensor in init.state.params.items()}
    return replace(init, state=LearnerState(params=init.state.params, second_moments=moments, updates=5000))


class UsualLoop:
    """The usual loop in a process of its own, as it is usually run: ours tells the allocator to keep memory."""

    def __init__(self, recipe: Recipe, start: LearnerState) -> None:
        context = multiprocessing.get_context("spawn")
        self._wire, theirs = context.Pipe()
        context.Process(target=_usual, args=(theirs, recipe, start), daemon=True).start()

    def seconds(self, steps: int) -> float:
        """How long the next outer steps took."""
        self._wire.send(steps)
        took: float = self._wire.recv()
        return took


def _usual(wire: Connection, recipe: Recipe, state: LearnerState) -> None:
    torch.set_num_threads(CORES)
    tasks, done = stream(recipe), 0
    with suppress(EOFError):  # the other end has left
        while True:
            steps = wire.recv()
            began = time.perf_counter()
            for index in range(done, done + steps):
                state = usual_step(recipe, tasks, state, index)
            wire.send(time.perf_counter() - began)
            done += steps


def measure(team: Team, rounds: int, steps: int, precision: str) -> dict[str, float]:
    """In every worker: the rounds. The first one has the usual loop run while the others wait."""
    paper = preset("omniglot-5way")
    paper = paper.replace(inner=paper.inner.replace(precision=precision))
    recipe = paper.replace(meta=paper.meta.replace(meta_steps=(rounds + 1) * steps))
    tasks = stream(recipe)
    start = start_of(recipe, tasks)
    ours = meta_train(recipe, tasks, start=start, team=team)
    usual = UsualLoop(recipe, start.state) if team.rank == 0 else None
    theirs = usual_step(recipe, tasks, start.state, 0, torch.float64).params
    times: list[tuple[float, float]] = []
    fastest = difference = 0.0
    for round_ in range(rounds + 1):
        if usual:
            torch.set_num_threads(CORES)
            usual_seconds = usual.seconds(steps)
            fastest = max(fastest, peak())
        if team.size > 1:
            dist.barrier()
        began = time.perf_counter()
        made: list[MetaStep] = list(islice(ours, steps))
        our_seconds = time.perf_counter() - began
        if usual and round_ == 0:
            difference = apart(made[0].initialization.state.params, theirs)
        elif usual:  # the first round warms both up
            times.append((usual_seconds, our_seconds))
        if team.size > 1:
            dist.barrier()
    if usual is None:
        return {}
    ratios = [usual / our for usual, our in times]
    rate = steps / statistics.median(our for _, our in times)
    return {
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "tasks_per_second": rate * recipe.meta.tasks_per_step,
        "share_of_peak": rate * flops_per_step(recipe, tasks) / fastest,
        "usual_ms": 1000 * statistics.median(usual for usual, _ in times) / steps,
        "our_ms": 1000 / rate,
        "peak_gflops": fastest / 1e9,
        "first_step_difference": difference,
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description="Meta-training speed against the usual PyTorch loop.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="outer steps in a round")
    parser.add_argument("--workers", type=int, default=min(CORES, 5))
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of our products")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    stream(preset("omniglot-5way"))  # drawn before the workers start
    work = (words.rounds, words.steps, words.precision)
    found = measure(Team(), *work) if words.workers == 1 else run_team(words.workers, measure, *work)
    if words.precision == "float32" and not found["first_step_difference"] < 1e-5:
        sys.exit(
            f"the two loops disagree: a weight differs by {found['first_step_difference']:.2g} after one outer step"
        )
    if words.json:
        keys = ("ratio", "ratio_min", "ratio_max", "tasks_per_second", "share_of_peak")
        print(json.dumps({key: round(found[key], 4) for key in keys}))
        return
    print(
        f"{found['ratio']:.2f} times the usual loop ({found['ratio_min']:.2f} to {found['ratio_max']:.2f} in "
        f"{words.rounds} rounds): {found['our_ms']:.0f} ms an outer step against {found['usual_ms']:.0f}, "
        f"{found['tasks_per_second']:.1f} tasks/s with {words.workers} workers; {found['share_of_peak']:.2f} of "
        f"{found['peak_gflops']:.0f} GFLOP/s; weights differ by at most "
        f"{found['first_step_difference']:.1e} after one step"
    )


if __name__ == "__main__":
    main()
