"""Meta-training speed: the usual PyTorch loop and ours, interleaved in one run on the same tasks.

    python -m benchmarks.meta_training [--rounds N] [--steps N] [--workers N] [--threads N] [--peers] [--json]

The preset is omniglot-5way, with glyphs as pictures (nothing to download; the arithmetic is the same).
The usual loop: deep-copy the network, create an Adam, take eager steps with `--threads` (default: all cores), average.
Its Adam continues from the shared second moments, as ours does, so that both must end in the same weights.
A round times, one after the other: the usual loop in float32; the fastest float32 product of oneDNN, on as many
threads, and of OpenBLAS, on all cores; and ours with products in float32 and in bfloat16, which is the preset's
precision. Both loops take a step before they are timed, while the threads of what ran before go to sleep. Ratios are
of the times in a round; the share of the peak is relative to the fastest product in this run. `--json` prints the
preset's figures, then those of both precisions.
With `--peers` each program has one thread and a process of its own, and a round asks one after the other: ours in both
precisions and without a compiler, and the programs of `benchmarks.peers`. Before that, each must reach the weights of
the usual loop in float64. Ratios are of processor time, to ours in float32. JAX takes part where it is installed.
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

from benchmarks.peers import CHECKED, LARGEST, OURS, PEERS, costs, exact_ends, largest_difference, present
from benchmarks.processes import Child
from benchmarks.usual_loop import usual_seconds, usual_step
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
from fewshot_sdk.nets.params import LearnerState

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
    """The seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak(threads: int) -> float:
    """The speed of the fastest float32 product of oneDNN and OpenBLAS, in FLOP/s; OpenBLAS takes all cores."""
    torch.set_num_threads(threads)
    n = 1536
    a, b = torch.randn(n, n), torch.randn(n, n)
    x, y = a.numpy(), b.numpy()
    products: list[Callable[[], object]] = [
        lambda: torch.mm(a, b),
        lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""),
        lambda: np.matmul(x, y),
    ]
    return max(2 * n**3 / seconds(product) for product in products for _ in range(4))


def start_of(recipe: Recipe, tasks: TaskSampler) -> Initialization:
    """Random weights, with second moments as after some training.

    Without moments Adam moves a weight by the sign of its gradient, which is rounding for gradients near zero, so that
    no two programs agree. The moments are large, so that weights move little: otherwise one activation that rounding
    moves across the kink of a ReLU changes all weights.
    """
    made = Provenance(
        command="", seed=0, meta_steps_done=0, data_sha256=tasks.data.digest, seconds=0, versions=made_with()
    )
    init = fresh(recipe, 0, made)
    moments = {name: torch.full_like(tensor, 1e-2) for name, tensor in init.state.params.items()}
    return replace(init, state=LearnerState(params=init.state.params, second_moments=moments, updates=5000))


def measure(workers: Workers, rounds: int, steps: int, threads: int) -> dict[str, dict[str, float]]:
    """The figures for each precision; run in every worker. The first runs the usual loop while the others wait."""
    paper = preset("omniglot-5way")
    paper = paper.replace(meta=paper.meta.replace(meta_steps=(rounds + 1) * (steps + 1)))
    tasks = stream(paper)
    start = start_of(paper, tasks)
    ours: dict[str, Iterator[MetaStep]] = {}
    for precision in get_args(Arithmetic):
        recipe = paper.replace(inner=paper.inner.replace(precision=precision))
        ours[precision] = meta_train(recipe, tasks, start=replace(start, recipe=recipe), workers=workers)
    usual: Child[int, float] | None = None
    if workers.rank == 0:
        usual = Child("the usual loop", usual_seconds, paper, stream, start.state, threads)
    theirs = usual_step(paper, tasks, start.state, 0, torch.float64).params
    times: dict[str, list[tuple[float, float]]] = {precision: [] for precision in ours}
    difference: dict[str, float] = {}
    fastest = 0.0
    for round_ in range(rounds + 1):
        if usual:
            usual.ask(1)
            their_seconds = usual.ask(steps)
            fastest = max(fastest, peak(threads))
        for precision, training in ours.items():
            if workers.size > 1:
                dist.barrier()
            first = next(training)
            began = time.perf_counter()
            deque(islice(training, steps), maxlen=0)
            our_seconds = time.perf_counter() - began
            if usual and round_ == 0:  # this round warms up
                difference[precision] = largest_difference(first.initialization.state.params, theirs)
            elif usual:
                times[precision].append((their_seconds, our_seconds))
        if workers.size > 1:
            dist.barrier()
    if usual is None:
        return {}
    usual.end()
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
    """The figures from each round's seconds of the usual loop and of ours; at_peak: seconds of a step at peak speed."""
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


def against_peers(rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """The costs of an outer step by ours and by each peer, all in one run, and their ratios to ours, round by round."""
    recipe = preset("omniglot-5way")
    recipe = recipe.replace(
        inner=recipe.inner.replace(precision="float32"),
        meta=recipe.meta.replace(meta_steps=(rounds + 1) * steps + CHECKED),
    )
    tasks = stream(recipe)
    start = start_of(recipe, tasks)
    expected = exact_ends(start, tasks)
    children = {name: Child[int, tuple[float, float]](name, costs, name, stream, start, expected) for name in present()}
    for child in children.values():
        child.ask(steps)  # one after the other, as in a round; the first steps compile
    times = [{name: child.ask(steps) for name, child in children.items()} for _ in range(rounds)]
    for child in children.values():
        child.end()
    return {name: _against_ours(name, times, steps) for name in children}


def _against_ours(name: str, times: list[dict[str, tuple[float, float]]], steps: int) -> dict[str, float]:
    ratios = [each[name][1] / each[next(iter(OURS))][1] for each in times]
    wall, processor = (1000 / steps * statistics.median(each[name][k] for each in times) for k in (0, 1))
    spread = {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
    return {"wall_ms": wall, "processor_ms": processor, **spread}


def show_peers(found: dict[str, dict[str, float]], as_json: bool) -> None:
    """Print the costs of all."""
    if as_json:
        print(json.dumps({name: {key: round(value, 4) for key, value in each.items()} for name, each in found.items()}))
        return
    if len(found) < len(OURS) + len(PEERS):
        print('JAX is not installed, so it is left out: pip install "jax[cpu]"')
    for name, each in found.items():
        print(
            f"{name}: {each['processor_ms']:.0f} ms of the processor an outer step, {each['wall_ms']:.0f} ms by the "
            f"clock; {each['ratio']:.2f} times ours ({each['ratio_min']:.2f} to {each['ratio_max']:.2f})"
        )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Meta-training speed against the usual PyTorch loop.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="outer steps in a round")
    parser.add_argument("--workers", type=int, default=min(CORES, 5))
    parser.add_argument("--threads", type=int, default=CORES, help="for the usual loop")
    parser.add_argument("--peers", action="store_true", help="one thread each, beside vmap, torch.compile and JAX")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.peers:
        show_peers(against_peers(options.rounds, options.steps), options.json)
        return
    stream(preset("omniglot-5way"))  # draws the tasks before the workers start
    work = (options.rounds, options.steps, options.threads)
    found = measure(Workers(), *work) if options.workers == 1 else run_workers(options.workers, measure, *work)
    if not (difference := found["float32"]["first_step_difference"]) < LARGEST:
        sys.exit(f"the two loops disagree: a weight differs by {difference:.2g} after one outer step")
    if options.json:
        keys = ("ratio", "ratio_min", "ratio_max", "tasks_per_second", "share_of_peak")
        short = {name: {key: round(each[key], 4) for key in keys} for name, each in found.items()}
        default = preset("omniglot-5way").inner.precision
        print(json.dumps({**short[default], "precision": default, **short}))
        return
    for precision, each in found.items():
        print(
            f"{precision}: {each['ratio']:.2f} times the usual loop ({each['ratio_min']:.2f} to "
            f"{each['ratio_max']:.2f} in {options.rounds} rounds): {each['our_ms']:.0f} ms an outer step against "
            f"{each['usual_ms']:.0f}, {each['tasks_per_second']:.1f} tasks/s with {options.workers} workers; "
            f"{each['share_of_peak']:.2f} of {each['peak_gflops']:.0f} GFLOP/s; weights differ by at most "
            f"{each['first_step_difference']:.1e} after one step"
        )


if __name__ == "__main__":
    main()
