"""Meta-training speed: the usual PyTorch loop and ours, interleaved in one run on the same tasks.

    python -m benchmarks.meta_training [--rounds N] [--steps N] [--workers N] [--json]

The preset is omniglot-5way, the pictures are glyphs (nothing to download; the arithmetic is the same).
The usual loop: deep-copy the network, make an Adam, take eager steps with all threads, average. Its Adam
continues from the shared second moments, as ours does, so that both must end in the same weights.
A round times the usual loop, in float32, ours with products in float32 and, as the preset has them, in bfloat16,
and the fastest float32 product of oneDNN and OpenBLAS on all cores, after each other; a step of each before it is timed
lets the threads of what ran before go to sleep. The ratio is that of the rounds'
times, the share of the peak that of the fastest product in this run. `--json` gives the preset's, then both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import get_args

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.usual_loop import UsualLoop, usual_step
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import Arithmetic, Recipe
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.data.glyphs import glyphs
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.inner_loop import loss_and_grads
from fewshot_sdk.engine.processors import cores
from fewshot_sdk.engine.workers import Workers, run_workers
from fewshot_sdk.meta.training import MetaStep, meta_train
from fewshot_sdk.nets.network import build_network, random_params
from fewshot_sdk.nets.params import LearnerState, Params

CORES = cores()


def stream(recipe: Recipe) -> TaskSampler:
    """The tasks that both loops train on."""
    data = glyphs(200, 20, recipe.preprocessing, seed=1)
    return TaskSampler(data=data, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot)


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


def measure(workers: Workers, rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """In every worker: the rounds, for each precision. The first one has the usual loop run while the others wait."""
    paper = preset("omniglot-5way")
    paper = paper.replace(meta=paper.meta.replace(meta_steps=(rounds + 1) * (steps + 1)))
    tasks = stream(paper)
    start = start_of(paper, tasks)
    ours: dict[str, Iterator[MetaStep]] = {}
    for precision in get_args(Arithmetic):
        recipe = paper.replace(inner=paper.inner.replace(precision=precision))
        ours[precision] = meta_train(recipe, tasks, start=replace(start, recipe=recipe), workers=workers)
    usual = UsualLoop(paper, stream, start.state) if workers.rank == 0 else None
    theirs = usual_step(paper, tasks, start.state, 0, torch.float64).params
    times: dict[str, list[tuple[float, float]]] = {precision: [] for precision in ours}
    difference: dict[str, float] = {}
    fastest = 0.0
    for round_ in range(rounds + 1):
        if usual:
            torch.set_num_threads(CORES)
            usual.seconds(1)
            usual_seconds = usual.seconds(steps)
            fastest = max(fastest, peak())
        for precision, training in ours.items():
            if workers.size > 1:
                dist.barrier()
            first = next(training)
            began = time.perf_counter()
            deque(islice(training, steps), maxlen=0)
            our_seconds = time.perf_counter() - began
            if usual and round_ == 0:  # which warms all up
                difference[precision] = apart(first.initialization.state.params, theirs)
            elif usual:
                times[precision].append((usual_seconds, our_seconds))
        if workers.size > 1:
            dist.barrier()
    if usual is None:
        return {}
    flops = flops_per_step(paper, tasks)
    return {
        precision: {
            **figures(measured, steps, paper.meta.tasks_per_step, flops / fastest),
            "peak_gflops": fastest / 1e9,
            "first_step_difference": difference[precision],
        }
        for precision, measured in times.items()
    }


def figures(times: list[tuple[float, float]], steps: int, n_tasks: int, at_peak: float) -> dict[str, float]:
    """Of the rounds' seconds, the usual loop's and ours; at_peak: the seconds of a step at the processor's best."""
    ratios = [usual / our for usual, our in times]
    rate = steps / statistics.median(our for _, our in times)
    return {
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "tasks_per_second": rate * n_tasks,
        "share_of_peak": rate * at_peak,
        "usual_ms": 1000 * statistics.median(usual for usual, _ in times) / steps,
        "our_ms": 1000 / rate,
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description="Meta-training speed against the usual PyTorch loop.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="outer steps in a round")
    parser.add_argument("--workers", type=int, default=min(CORES, 5))
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    stream(preset("omniglot-5way"))  # drawn before the workers start
    work = (words.rounds, words.steps)
    found = measure(Workers(), *work) if words.workers == 1 else run_workers(words.workers, measure, *work)
    if not (difference := found["float32"]["first_step_difference"]) < 1e-5:
        sys.exit(f"the two loops disagree: a weight differs by {difference:.2g} after one outer step")
    if words.json:
        keys = ("ratio", "ratio_min", "ratio_max", "tasks_per_second", "share_of_peak")
        short = {of: {key: round(each[key], 4) for key in keys} for of, each in found.items()}
        as_shipped = preset("omniglot-5way").inner.precision
        print(json.dumps({**short[as_shipped], "precision": as_shipped, **short}))
        return
    for precision, each in found.items():
        print(
            f"{precision}: {each['ratio']:.2f} times the usual loop ({each['ratio_min']:.2f} to "
            f"{each['ratio_max']:.2f} in {words.rounds} rounds): {each['our_ms']:.0f} ms an outer step against "
            f"{each['usual_ms']:.0f}, {each['tasks_per_second']:.1f} tasks/s with {words.workers} workers; "
            f"{each['share_of_peak']:.2f} of {each['peak_gflops']:.0f} GFLOP/s; weights differ by at most "
            f"{each['first_step_difference']:.1e} after one step"
        )


if __name__ == "__main__":
    main()
