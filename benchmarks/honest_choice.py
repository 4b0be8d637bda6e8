"""How well `adapt --method auto` predicts its own accuracy and rejections, on characters never trained on.

    python -m benchmarks.honest_choice [--tasks N] [--ways N] [--shots K] [--data NAME] [--seed N] [--json]

Each task has as many classes again that the classifier is never shown; ten queries of each class, known and unknown,
are classified. Prints the accuracy of each method and of `auto` without rejection, then for `auto` the calibration
error at temperature 1 and at the fitted one, and what the threshold did beside what cross-validation promised.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Literal, get_args

import numpy as np

from fewshot_sdk import TaskSampler, adapt, load, open_dataset
from fewshot_sdk.config.records import Method
from fewshot_sdk.data.opening import data_source
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.runtime.calibration import auroc, expected_calibration_error, softmax

METHODS: tuple[Method | Literal["auto"], ...] = (*get_args(Method), "auto")


def measure(data: str, n_way: int, k_shot: int, n_tasks: int, seed: int) -> dict[str, float]:
    """The means over the tasks; calibration errors are over all queries together."""
    init = load("omniglot")
    source = init.recipe.data if data == init.recipe.data.name else data_source(data)
    classes = open_dataset(source, init.recipe.preprocessing, "test")
    tasks = TaskSampler(data=classes, n_way=2 * n_way, k_shot=k_shot, n_query=10, seed=seed)
    found: dict[str, list[float]] = {}
    calibrated, uncalibrated, truth = [], [], []
    for index in range(n_tasks):
        task = tasks.task(index)
        known, known_queries = task.support_labels < n_way, (task.query_labels < n_way).numpy()
        support = SupportSet(
            labels=tuple(f"{label:03}" for label in range(n_way)),
            images=task.support[known].numpy(),
            targets=task.support_labels[known].numpy(),
        )
        targets = task.query_labels.numpy()[known_queries]
        row: dict[str, float] = {}
        for method in METHODS:
            started = time.perf_counter()
            made = adapt(init, support, method=method, reject_rate=0.05 if method == "auto" else None)
            row[f"seconds_{method}"] = time.perf_counter() - started
            answers, said_known = made.answers(task.query.numpy())
            probabilities = answers.astype(np.float64)
            row[f"accuracy_{method}"] = float((probabilities[known_queries].argmax(1) == targets).mean())
        record, scores = made.config.calibration, made.network()(task.query).double().numpy().max(1)
        row["known_lost"] = float(1 - said_known[known_queries].mean())
        row["unknown_rejected"] = float(1 - said_known[~known_queries].mean())
        row["auroc"] = auroc(scores[known_queries], scores[~known_queries])
        if record:
            row["accuracy_promised"] = record.accuracy
            row["unknown_rejected_promised"] = record.unknown_rejected or 0.0
            row["auroc_promised"] = record.auroc or 0.0
        row["temperature"] = made.config.temperature
        row[f"chose_{made.config.method}"] = 1.0
        for key, value in row.items():
            found.setdefault(key, []).append(value)
        calibrated.append(probabilities[known_queries])
        logits = np.log(np.maximum(calibrated[-1], 1e-300)) * made.config.temperature  # up to a constant
        uncalibrated.append(softmax(logits))
        truth.append(targets)
    means = {key: sum(values) / n_tasks for key, values in found.items()}
    means["ece_before"] = expected_calibration_error(np.concatenate(uncalibrated), np.concatenate(truth))
    means["ece"] = expected_calibration_error(np.concatenate(calibrated), np.concatenate(truth))
    return means


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="What cross-validation promised, and what came true.")
    parser.add_argument("--data", default="omniglot")
    for name, default in (("tasks", 20), ("ways", 5), ("shots", 5), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.data, options.ways, options.shots, options.tasks, options.seed)
    if options.json:
        print(json.dumps({key: round(value, 5) for key, value in found.items()}))
        return
    for key, value in sorted(found.items()):
        print(f"{key:<26} {value:.4f}")


if __name__ == "__main__":
    main()
