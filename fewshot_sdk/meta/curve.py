"""The curve of a training: accuracy on classes that it does not train on, measured now and then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.records import Metric
from fewshot_sdk.data.datasets import held_out, open_dataset
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine.workers import Workers, peak_memory
from fewshot_sdk.meta.evaluation import evaluate
from fewshot_sdk.meta.training import MetaStep

POINTS, LEAST_APART, TASKS = 20, 500, 200


def measured(
    steps: Iterator[MetaStep],
    recipe: Recipe,
    *,
    every: int | None,
    root: Path | None = None,
    seed: int = 0,
    before: tuple[Metric, ...] = (),
    workers: Workers | None = None,
) -> Iterator[MetaStep]:
    """Yields the steps, the initialization of each with the metrics up to it.

    every: outer steps between two points of the curve, whose last is at the end; 0: no curve; None: a twentieth of all,
    at least 500. Each point is the transductive 1-shot accuracy over 200 tasks, the same each time.
    root: as of `open_dataset`. before: the metrics of the steps before these.
    """
    total = recipe.meta.meta_steps
    apart = max(total // POINTS, LEAST_APART) if every is None else every
    if apart == 0:
        yield from steps
        return
    data = open_dataset(recipe.data, recipe.preprocessing, held_out(recipe.data), root)
    tasks = TaskSampler(data=data, n_way=recipe.meta.n_way, k_shot=1, n_query=1, seed=seed)
    metrics, everybody = before, workers or Workers()
    for step in steps:
        if step.done % apart == 0 or step.done == total:
            metrics = (*metrics, _point(step, tasks, everybody))
        yield replace(step, initialization=replace(step.initialization, metrics=metrics))


def _point(step: MetaStep, tasks: TaskSampler, workers: Workers) -> Metric:
    found = evaluate(step.initialization, tasks, n_tasks=TASKS, mode="transductive", workers=workers)
    return Metric(
        meta_steps=step.done,
        seconds=step.initialization.provenance.seconds,
        memory_mb=peak_memory(workers),
        loss=step.loss,
        **found.model_dump(include={"accuracy", "ci95", "tasks", "ways"}),
    )
