"""What each algorithm costs: tasks/s and peak memory of meta-training, on the same tasks, one process each.

    python -m benchmarks.algorithms [--rounds N] [--steps N] [--algorithms A...] [--same-loop] [--json]

The network and the tasks are those of omniglot-5way, the pictures are glyphs (nothing to download; the arithmetic is
the same); each algorithm has the inner loop that `fewshot meta-train --algorithm` gives it, or, with --same-loop,
all have five steps of SGD on batches of 10. `reptile-torch` is Reptile without the compiled inner loop, protonet has
none. A round runs each of them in turn, on one thread, so that a busy machine slows all alike; ratios are to Reptile,
of the same round: medians. Memory is the largest resident set of the process, of which some 300 MB are PyTorch itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from itertools import islice
from multiprocessing.connection import Connection

import torch

from benchmarks.meta_training import stream
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
    if same_loop:
        moved = moved_by(recipe.meta.algorithm)
        inner = InnerLoop(optimizer="sgd", learning_rate=0.01, batch_size=10, steps=5, trainable=moved)
        recipe = recipe.replace(inner=inner, adaptation=inner, meta=recipe.meta.replace(tail_shots=0))
    return recipe


def work(wire: Connection, name: str, steps: int, same_loop: bool) -> None:
    """In a process of its own: for each message, some outer steps; says how long they took and the memory so far."""
    if name == PLAIN:
        os.environ["FEWSHOT_NATIVE"] = "0"
    torch.set_num_threads(1)
    recipe = recipe_of(name, same_loop)
    outer = meta_train(recipe, stream(recipe))
    while wire.recv():
        began = time.perf_counter()
        for _ in islice(outer, steps):
            pass
        took = time.perf_counter() - began
        wire.send((took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure(names: list[str], rounds: int, steps: int, same_loop: bool) -> dict[str, dict[str, float]]:
    """Tasks/s, how many times Reptile's time, and peak memory in MB, by name; a first round warms up."""
    context = multiprocessing.get_context("spawn")
    wires: dict[str, Connection] = {}
    for name in names:
        wires[name], theirs = context.Pipe()
        context.Process(target=work, args=(theirs, name, steps, same_loop), daemon=True).start()
    times: dict[str, list[float]] = {name: [] for name in names}
    memory = dict.fromkeys(names, 0.0)
    for round_ in range(rounds + 1):
        for name, wire in wires.items():
            wire.send(True)
            took, memory[name] = wire.recv()
            if round_:
                times[name].append(took)
    for wire in wires.values():
        wire.send(False)
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
    """Prints the figures as a table, or JSON."""
    parser = argparse.ArgumentParser(description="What each meta-learning algorithm costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="outer steps in a round")
    parser.add_argument("--algorithms", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--same-loop", action="store_true", help="five steps of SGD on batches of 10 for all")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    stream(preset("omniglot-5way"))  # drawn before the processes start
    found = measure(words.algorithms, words.rounds, words.steps, words.same_loop)
    if words.json:
        print(json.dumps(found))
        return
    print("| algorithm | tasks/s | time to Reptile's | to Reptile's in PyTorch | peak memory |\n|---|---|---|---|---|")
    for name, figures in found.items():
        ratios = [f"{figures[key]:.2f}" if key in figures else "" for key in ("times_reptile", f"times_{PLAIN}")]
        print(f"| {name} | {figures['tasks_per_second']:.1f} | {' | '.join(ratios)} | {figures['memory_mb']:.0f} MB |")


if __name__ == "__main__":
    main()
