"""Cost of each algorithm: tasks/s and peak memory of meta-training, on the same tasks, one process each.

    python -m benchmarks.algorithms [--rounds N] [--steps N] [--algorithms A...] [--same-loop] [--json]

The network and the tasks are those of omniglot-5way, with glyphs as pictures (nothing to download; the arithmetic is
the same). Each algorithm has the inner loop that `fewshot meta-train --algorithm` gives it; with --same-loop, all but
protonet, which has none, take five steps of SGD on batches of 10. `reptile-torch` is Reptile without the compiled inner
loop. A round runs each of them in turn, on one thread, so that a busy machine slows all alike; ratios are medians of
the ratios to Reptile in the same round. Memory is the peak resident set of the process, of which PyTorch itself takes
some 300 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from itertools import islice

import torch

from benchmarks.meta_training import stream
from benchmarks.processes import Child
from fewshot_sdk.algorithms import ALGORITHMS, moved_by
from fewshot_sdk.config.presets import preset, with_algorithm
from fewshot_sdk.config.recipe import InnerLoop, Recipe
from fewshot_sdk.meta.training import meta_train

PLAIN = "reptile-torch"
NAMES = (PLAIN, *ALGORITHMS)


def recipe_of(name: str, same_loop: bool) -> Recipe:
    """The paper's Omniglot 5-way, by another algorithm."""
    paper = preset("omniglot-5way")
    recipe = with_algorithm(paper, "reptile" if name == PLAIN else name)
    if same_loop and ALGORITHMS[recipe.meta.algorithm].takes_steps:
        moved = moved_by(recipe.meta.algorithm)
        inner = InnerLoop(optimizer="sgd", learning_rate=0.01, batch_size=10, steps=5, trainable=moved)
        recipe = recipe.replace(inner=inner, adaptation=inner, meta=recipe.meta.replace(tail_shots=0))
    return recipe


def training(name: str, same_loop: bool) -> Callable[[int], tuple[float, float]]:
    """A function that takes n more outer steps and returns their seconds and the process's peak memory so far in MB."""
    if name == PLAIN:
        os.environ["FEWSHOT_NATIVE"] = "0"
    torch.set_num_threads(1)
    recipe = recipe_of(name, same_loop)
    outer = meta_train(recipe, stream(recipe))

    def steps(n: int) -> tuple[float, float]:
        began = time.perf_counter()
        for _ in islice(outer, n):
            pass
        return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    return steps


def measure(names: list[str], rounds: int, steps: int, same_loop: bool) -> dict[str, dict[str, float]]:
    """By name: tasks/s, the time relative to Reptile's, and peak memory in MB; a first round warms up."""
    children = {name: Child(name, training, name, same_loop) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    memory = dict.fromkeys(names, 0.0)
    for round_ in range(rounds + 1):
        for name, child in children.items():
            took, memory[name] = child.ask(steps)
            if round_:
                times[name].append(took)
    for child in children.values():
        child.end()
    tasks = steps * preset("omniglot-5way").meta.tasks_per_step
    found = {}
    for name, each in times.items():
        found[name] = {"tasks_per_second": tasks / statistics.median(each), "memory_mb": memory[name]}
        for other in ("reptile", PLAIN):
            if other in times:
                ratios = [mine / theirs for mine, theirs in zip(each, times[other], strict=True)]
                found[name][f"times_{other}"] = statistics.median(ratios)
    return found


def main() -> None:
    """Print the figures as a table, or JSON."""
    parser = argparse.ArgumentParser(description="Cost of each meta-learning algorithm.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="outer steps in a round")
    parser.add_argument("--algorithms", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument(
        "--same-loop", action="store_true", help="five steps of SGD on batches of 10 for all that take steps"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    stream(preset("omniglot-5way"))  # draws the tasks before the processes start
    found = measure(options.algorithms, options.rounds, options.steps, options.same_loop)
    if options.json:
        print(json.dumps(found))
        return
    print("| algorithm | tasks/s | time to Reptile's | to Reptile's in PyTorch | peak memory |\n|---|---|---|---|---|")
    for name, figures in found.items():
        ratios = [f"{figures[key]:.2f}" if key in figures else "" for key in ("times_reptile", f"times_{PLAIN}")]
        print(f"| {name} | {figures['tasks_per_second']:.1f} | {' | '.join(ratios)} | {figures['memory_mb']:.0f} MB |")


if __name__ == "__main__":
    main()
