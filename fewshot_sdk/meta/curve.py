"""The learning curve of meta-training: accuracy on held-out classes, measured at intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.records import Metric
from fewshot_sdk.data.opening import held_out, open_dataset
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
    """Yields the steps, each initialization with the metrics so far.

    every: outer steps between two points of the curve, which always has one at the end; 0: no curve; None: a twentieth
    of all steps, but at least 500. Each point is the transductive 1-shot accuracy over the same 200 tasks.
    root: as for `open_dataset`. before: the metrics of earlier steps. There is no curve without classes for it, see
    `ways`.
    """
    total, part = recipe.meta.meta_steps, held_out(recipe.data)
    spacing = max(total // POINTS, LEAST_APART) if every is None else every
    if spacing == 0 or part is None or not ways(recipe):
        yield from steps
        return
    data = open_dataset(recipe.data, recipe.preprocessing, part, root)
    tasks = TaskSampler(data=data, n_way=ways(recipe), k_shot=1, n_query=1, seed=seed)
    metrics, workers = before, workers or Workers()
    for step in steps:
        if step.done % spacing == 0 or step.done == total:
            metrics = (*metrics, _point(step, tasks, workers))
        yield replace(step, initialization=replace(step.initialization, metrics=metrics))


def ways(recipe: Recipe) -> int:
    """Classes in each task of the curve: n_way, or all held-out ones if one's own data have fewer; 0: too few."""
    own, part = recipe.data.own, held_out(recipe.data)
    if own is None:
        return recipe.meta.n_way
    there = 0 if part is None else len(own.val if part == "val" else own.test)
    if there < 2 or (recipe.head == "dense" and there < recipe.meta.n_way):
        return 0
    return min(there, recipe.meta.n_way)


def _point(step: MetaStep, tasks: TaskSampler, workers: Workers) -> Metric:
    found = evaluate(step.initialization, tasks, n_tasks=TASKS, mode="transductive", workers=workers)
    return Metric(
        meta_steps=step.done,
        seconds=step.initialization.provenance.seconds,
        memory_mb=peak_memory(workers),
        loss=step.loss,
        **found.model_dump(include={"accuracy", "ci95", "tasks", "ways"}),
    )
