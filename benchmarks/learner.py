"""Speed of adapting in onnxruntime: a learner file and the usual PyTorch loop, interleaved, on one thread each.

    python -m benchmarks.learner [--rounds N] [--steps N] [--json]

The initialization is omniglot: 5 classes, 1 shot, 5 queries, each classified with the support set's statistics. The
usual loop takes eager steps of Adam from the initialization's moments. Both classify the same tasks; the share of
queries on which they agree is printed as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from benchmarks.meta_training import stream
from fewshot_sdk import Learner, load
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.export.learner import in_pytorch, learner_bytes


def measure(rounds: int, steps: int) -> dict[str, float]:
    """Milliseconds to adapt and classify, least and median, and the share of queries on which both agree."""
    init = load("omniglot")
    sampler = TaskSampler(data=stream(init.recipe).data, n_way=5, k_shot=1, n_query=1)
    learner = Learner(learner_bytes(init))
    ours: list[float] = []
    usual: list[float] = []
    agreed = 0
    for index in range(rounds + 1):
        task = sampler.task(index)
        arrays = (task.support.numpy(), task.support_labels.numpy(), task.query.numpy())
        began = time.perf_counter()
        found = learner.adapt(*arrays, steps=steps).probabilities
        middle = time.perf_counter()
        wanted = in_pytorch(init, *arrays, steps, transductive=False, dtype=torch.float32)
        usual.append(1000 * (time.perf_counter() - middle))
        ours.append(1000 * (middle - began))
        agreed += int((found.argmax(1) == wanted.argmax(1)).sum())
    usual, ours = usual[1:], ours[1:]  # the first warms up
    return {
        "learner_ms_min": min(ours),
        "learner_ms": statistics.median(ours),
        "usual_ms_min": min(usual),
        "usual_ms": statistics.median(usual),
        "ratio": statistics.median(u / o for u, o in zip(usual, ours, strict=True)),
        "queries_agreed": agreed / (5 * (rounds + 1)),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Speed of adapting in onnxruntime against the usual PyTorch loop.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds, options.steps)
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in found.items()}))
        return
    for name, title in (("learner", "learner"), ("usual", "usual loop")):
        print(
            f"{title}: {options.steps} steps and 5 queries in {found[f'{name}_ms']:.0f} ms, "
            f"at least {found[f'{name}_ms_min']:.0f}"
        )
    print(f"{found['ratio']:.2f} times the usual loop; they agree on {found['queries_agreed']:.0%} of the queries")


if __name__ == "__main__":
    main()
