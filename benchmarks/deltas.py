"""Memory and time of a thousand users' classifiers on one initialization: as deltas, and as a whole file each.

    python -m benchmarks.deltas [--users N] [--adaptations N] [--precision P] [--json]

The initialization is omniglot. Some classifiers (5 classes, 5 pictures each, the recipe's steps) are adapted to
synthetic characters and dealt out among the users, but each user's bytes are read and kept anew. Memory is the growth
of the process's resident set, on Linux. A whole file each is a `Predictor`, measured with a twentieth of the users.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.meta_training import stream
from fewshot_sdk import Delta, DeltaPredictor, Predictor, adapt, export_onnx, load, save
from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.config.records import Precision
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.images.support import SupportSet


def resident() -> float:
    """Resident memory of this process, in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(users: int, adaptations: int, precision: Precision) -> dict[str, float]:
    """Megabytes, milliseconds, and the share of users for whom delta and classifier agree."""
    init = load("omniglot")
    sampler = TaskSampler(data=stream(init.recipe).data, n_way=5, k_shot=5, n_query=5)
    labels = tuple("abcde")
    with tempfile.TemporaryDirectory() as home:
        made: list[Classifier] = []
        for index in range(adaptations):
            task = sampler.task(index)
            support = SupportSet(labels=labels, images=task.support.numpy(), targets=task.support_labels.numpy())
            made.append(adapt(init, support, seed=index, method="reptile", reject_rate=None))
            save(Delta(classifier=made[-1], base=init, precision=precision), Path(home, f"delta{index}"))
        export_onnx(made[0], Path(home, "whole.onnx"))
        size = Path(home, "delta0", "delta.safetensors").stat().st_size

        before = resident()
        predictor = DeltaPredictor("omniglot")
        predictor.add("first", Path(home, "delta0"))
        alone = resident() - before
        began = time.perf_counter()
        for user in range(users):
            predictor.add(f"user{user}", Path(home, f"delta{user % adaptations}"))
        adding = time.perf_counter() - began
        held = resident() - before
        agreed, took = 0, []
        for user in range(users):
            images = sampler.task(user % adaptations).query.numpy()[:1]
            began = time.perf_counter()
            found = predictor.probabilities(f"user{user}", images)
            took.append(1000 * (time.perf_counter() - began))
            agreed += int(found.argmax() == made[user % adaptations].probabilities(images).argmax())

        n_whole = max(users // 20, 1)
        before = resident()
        whole = [Predictor(Path(home, "whole.onnx")) for _ in range(n_whole)]
        each = (resident() - before) / len(whole)
        took_whole = []
        for each_predictor in whole:
            began = time.perf_counter()
            each_predictor.probabilities(images)
            took_whole.append(1000 * (time.perf_counter() - began))
    return {
        "users": users,
        "delta_kb": size / 1000,
        "base_mb": alone,
        "held_mb": held,
        "whole_files_mb": each * users,
        "add_ms": 1000 * adding / users,
        "answer_ms": float(np.median(took)),
        "whole_file_answer_ms": float(np.median(took_whole)),
        "agreed": agreed / users,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Memory and time of many classifiers on one initialization.")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--adaptations", type=int, default=20)
    parser.add_argument("--precision", choices=("float32", "float16", "int8"), default="int8")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.users, options.adaptations, options.precision)
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in found.items()}))
        return
    print(
        f"{options.users} classifiers on omniglot, {options.precision} deltas of {found['delta_kb']:.0f} kB: "
        f"{found['held_mb']:.0f} MB; with a file each {found['whole_files_mb']:.0f} MB"
    )
    print(
        f"{found['answer_ms']:.1f} ms a prediction (with its own file {found['whole_file_answer_ms']:.1f} ms), "
        f"{found['add_ms']:.1f} ms to add one; {found['agreed']:.1%} of the predictions are the whole classifier's"
    )


if __name__ == "__main__":
    main()
