"""Whether `adapt --method auto` keeps its promises on characters never trained on.

    python -m benchmarks.honest_choice [--tasks N] [--ways N] [--shots K] [--data NAME] [--seed N] [--json]

Each task has as many classes again that the classifier is never shown; ten queries of each class, known and
unknown, are judged. Printed: accuracy of each method and of `auto` with `unknown` not being an answer, then for
`auto` the calibration error at temperature 1 and as fitted, and what the threshold did beside what was promised.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Literal, get_args

import numpy as np

from fewshot_sdk import TaskSampler, adapt, load, open_dataset
from fewshot_sdk.adaptation.calibration import auroc, expected_calibration_error, softmax
from fewshot_sdk.config.records import Method
from fewshot_sdk.data.datasets import data_source
from fewshot_sdk.images.support import SupportSet

METHODS: tuple[Method | Literal["auto"], ...] = (*get_args(Method), "auto")


def measure(data: str, strategies: int, shots: int, n_tasks: int, seed: int) -> dict[str, float]:
    """The means over the tasks; calibration errors are of all queries together."""
    init = load("omniglot")
    source = init.recipe.data if data == init.recipe.data.name else data_source(data)
    classes = open_dataset(source, init.recipe.preprocessing, "test")
    tasks = TaskSampler(data=classes, n_way=2 * strategies, k_shot=shots, n_query=10, seed=seed)
    found: dict[str, list[float]] = {}
    said, plain, truth = [], [], []
    for index in range(n_tasks):
        task = tasks.task(index)
        known, asked = task.support_labels < strategies, task.query_labels < strategies
        support = SupportSet(
            labels=tuple(f"{label:03}" for label in range(strategies)),
            images=task.support[known].numpy(),
            targets=task.support_labels[known].numpy(),
        )
        targets = task.query_labels[asked].numpy()
        row: dict[str, float] = {}
        for method in METHODS:
            started = time.perf_counter()
            made = adapt(init, support, method=method, reject_rate=0.05 if method == "auto" else None)
            row[f"seconds_{method}"] = time.perf_counter() - started
            probabilities = made.probabilities(task.query.numpy()).astype(np.float64)
            row[f"accuracy_{method}"] = float((probabilities[asked.numpy()].argmax(1) == targets).mean())
        record, sure = made.config.calibration, probabilities.max(1)
        row["known_lost"] = float((sure[asked.numpy()] < made.config.threshold).mean())
        row["unknown_rejected"] = float((sure[~asked.numpy()] < made.config.threshold).mean())
        row["auroc"] = auroc(sure[asked.numpy()], sure[~asked.numpy()])
        if record:
            row["accuracy_promised"] = record.accuracy
            row["unknown_rejected_promised"] = record.unknown_rejected or 0.0
            row["auroc_promised"] = record.auroc or 0.0
        row["temperature"] = made.config.temperature
        row[f"chose_{made.config.method}"] = 1.0
        for key, value in row.items():
            found.setdefault(key, []).append(value)
        said.append(probabilities[asked.numpy()])
        plain.append(softmax(np.log(np.maximum(said[-1], 1e-300)) * made.config.temperature))
        truth.append(targets)
    means = {key: sum(values) / n_tasks for key, values in found.items()}
    means["ece_before"] = expected_calibration_error(np.concatenate(plain), np.concatenate(truth))
    means["ece"] = expected_calibration_error(np.concatenate(said), np.concatenate(truth))
    return means


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description="Whether the choice by cross-validation keeps its promises.")
    parser.add_argument("--data", default="omniglot")
    for name, default in (("tasks", 20), ("ways", 5), ("shots", 5), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    found = measure(words.data, words.strategies, words.shots, words.tasks, words.seed)
    if words.json:
        print(json.dumps({key: round(value, 5) for key, value in found.items()}))
        return
    for key, value in sorted(found.items()):
        print(f"{key:<26} {value:.4f}")


if __name__ == "__main__":
    main()
