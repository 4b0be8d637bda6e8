"""Speed of adapting to one task and of evaluating on many: the usual PyTorch loop and ours, interleaved.

    python -m benchmarks.adaptation [--rounds N] [--tasks N] [--workers N] [--threads N] [--json]

The preset is omniglot-5way: 5 classes, 1 shot, 50 steps of Adam on batches of 5, then 5 queries together.
The usual loop: deep-copy the network, create an Adam with the initialization's moments, take eager steps with
`--threads` (default: all cores). Ours adapts to one task in this process, and evaluates many in `--workers` processes.
Both classify the same tasks; the share of queries on which they agree is printed as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.meta_training import CORES, start_of, stream
from benchmarks.usual_loop import usual_adaptation
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.presets import preset
from fewshot_sdk.data.tasks import Task, TaskSampler, mini_batches
from fewshot_sdk.engine.forward import Forward
from fewshot_sdk.engine.heads import open_head
from fewshot_sdk.engine.inner_loop import fine_tune, one_thread
from fewshot_sdk.engine.workers import Workers, run_workers
from fewshot_sdk.meta.evaluation import accuracies
from fewshot_sdk.nets.network import build_network


def tasks_and_start() -> tuple[TaskSampler, Initialization]:
    """5-way 1-shot tasks with a query for each class, and weights to start from."""
    recipe = preset("omniglot-5way")
    sampler = stream(recipe)
    return TaskSampler(data=sampler.data, n_way=5, k_shot=1, n_query=1), start_of(recipe, sampler)


def usual(init: Initialization, task: Task) -> Tensor:
    """The classes of the queries, by the usual loop."""
    network = build_network(init.recipe.backbone, init.recipe.preprocessing, task.n_way)
    network.load_state_dict(init.state.params, strict=False)
    learner, _ = usual_adaptation(network, init.state, task, init.recipe.adaptation)
    with torch.no_grad():
        labels: Tensor = learner(task.query).argmax(1)
    return labels


def ours(init: Initialization, task: Task) -> Tensor:
    """The classes of the queries, by the library."""
    inner = init.recipe.adaptation
    network = build_network(init.recipe.backbone, init.recipe.preprocessing, task.n_way)
    start = open_head(init.state, init.recipe.head, network)
    batches = mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed)
    with one_thread():
        state, _ = fine_tune(network, start, task.support, task.support_labels, batches, inner, cores=CORES)
        return Forward(network, state.params).together(task.query).argmax(1)


def measure(workers: Workers, rounds: int, n_tasks: int, threads: int) -> dict[str, float]:
    """The figures over the rounds; run in every worker. The first runs the usual loop while the others wait."""
    sampler, init = tasks_and_start()
    alone: list[tuple[float, float]] = []
    many: list[tuple[float, float]] = []
    agreed = 0
    for round_ in range(rounds + 1):
        if workers.rank == 0:
            torch.set_num_threads(threads)
            task = sampler.task(round_)
            began = time.perf_counter()
            theirs = usual(init, task)
            middle = time.perf_counter()
            agreed += int((ours(init, task) == theirs).sum())
            alone.append((middle - began, time.perf_counter() - middle))
            began = time.perf_counter()
            for index in range(n_tasks):
                usual(init, sampler.task(index))
            usual_seconds = time.perf_counter() - began
        if workers.size > 1:
            dist.barrier()
        began = time.perf_counter()
        for _ in accuracies(init, sampler, n_tasks=n_tasks, modes=["transductive"], workers=workers):
            pass
        if workers.size > 1:
            dist.barrier()
        if workers.rank == 0:
            many.append((usual_seconds, time.perf_counter() - began))
    if workers.rank:
        return {}
    found = {f"{key}_{name}": v for name, times in (("adaptation", alone), ("evaluation", many))
             for key, v in ratios(times[1:]).items()}  # fmt: skip
    found["adaptation_ms"] = 1000 * statistics.median(our for _, our in alone[1:])
    found["evaluation_tasks_per_second"] = n_tasks / statistics.median(our for _, our in many[1:])
    return {**found, "queries_agreed": agreed / (5 * (rounds + 1))}


def ratios(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    """How many times as fast the second of each pair is: median, least and most."""
    each = [usual / our for usual, our in times]
    return {"ratio": statistics.median(each), "ratio_min": min(each), "ratio_max": max(each)}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Speed of adaptation and evaluation against the usual PyTorch loop.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=20, help="tasks evaluated in a round")
    parser.add_argument("--workers", type=int, default=CORES)
    parser.add_argument("--threads", type=int, default=CORES, help="for the usual loop")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    tasks_and_start()  # draws the tasks before the workers start
    work = (options.rounds, options.tasks, options.threads)
    found = measure(Workers(), *work) if options.workers == 1 else run_workers(options.workers, measure, *work)
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in found.items()}))
        return
    for name, unit in (("adaptation", "one task"), ("evaluation", f"{options.tasks} tasks")):
        print(
            f"{name} ({unit}): {found[f'ratio_{name}']:.2f} times the usual loop "
            f"({found[f'ratio_min_{name}']:.2f} to {found[f'ratio_max_{name}']:.2f} in {options.rounds} rounds)"
        )
    print(
        f"{found['adaptation_ms']:.0f} ms to adapt, {found['evaluation_tasks_per_second']:.0f} tasks/s evaluated "
        f"by {options.workers} workers; the two loops agree on {found['queries_agreed']:.0%} of the queries"
    )


if __name__ == "__main__":
    main()
