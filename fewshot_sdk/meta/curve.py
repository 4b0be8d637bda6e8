"""What is written down during meta-training: loss and speed now and then, and the accuracy on held-out classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from fewshot_sdk.artifacts.initialization import E, Initialization, R
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.records import Metric, Mode, Progress
from fewshot_sdk.data.opening import held_out, open_dataset
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.engine.workers import Workers, peak_memory
from fewshot_sdk.meta.evaluation import accuracies, summaries
from fewshot_sdk.meta.training import MetaStep

POINTS, LEAST_APART, TASKS = 20, 500, 200
LINES = 500  # of metrics.jsonl, besides those of the curve


def spacing(every: int | None, total: int) -> int:
    """The outer steps between two points of the curve; None: a twentieth of all, but at least 500; 0: no curve."""
    return max(total // POINTS, LEAST_APART) if every is None else every


def ways(recipe: Recipe) -> int:
    """Classes in each task of the curve: n_way, or all held-out ones if one's own data have fewer; 0: too few."""
    own, part = recipe.data.own, held_out(recipe.data)
    if own is None:
        return recipe.meta.n_way
    there = 0 if part is None else len(own.val if part == "val" else own.test)
    if there < 2 or (recipe.head == "dense" and there < recipe.meta.n_way):
        return 0
    return min(there, recipe.meta.n_way)


class Interrupted(Exception):
    """The run is to end while accuracy is measured; the outer step before is the last one that counts."""


class Points:
    """The points of the learning curve: every `every` outer steps and at the end.

    Each is the transductive 1-shot accuracy over the same 200 tasks of held-out classes. root: as for `open_dataset`.
    stop: asked after each task.
    """

    def __init__(
        self, recipe: Recipe, *, every: int, root: Path | None = None, seed: int = 0, workers: Workers | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        part = held_out(recipe.data)
        assert part is not None  # else there are no `ways`
        data = open_dataset(recipe.data, recipe.preprocessing, part, root)
        self._tasks = TaskSampler(data=data, n_way=ways(recipe), k_shot=1, n_query=1, seed=seed)
        self._every, self._workers, self._stop = every, workers or Workers(), stop

    def due(self, done: int, total: int) -> bool:
        """Whether the curve has a point after this step."""
        return done % self._every == 0 or done == total

    def point(self, init: Initialization, line: Progress) -> Metric:
        """The line with the initialization's accuracy. Every worker must call it.

        Raises Interrupted between two tasks, in all workers, once `stop` returns True in one of them.
        """
        workers, mine = self._workers, list[dict[Mode, float]]()
        running = accuracies(init, self._tasks, n_tasks=TASKS, modes=["transductive"], workers=workers)
        for _ in range(-(-TASKS // workers.size)):
            mine += islice(running, 1)
            if workers.any(self._stop()):
                raise Interrupted
        (found,) = summaries(mine, self._tasks, TASKS, workers)
        measured = found.model_dump(include={"accuracy", "ci95", "tasks", "ways"})
        return Metric(**{**line.model_dump(), "memory_mb": peak_memory(self._workers), **measured})


def measured(
    steps: Iterator[MetaStep[R, E]], start: Initialization[R, E] | None = None, points: Points | None = None
) -> Iterator[MetaStep[R, E]]:
    """Yields the steps, each initialization with all lines of metrics.jsonl so far, and the step with its own.

    There is a line for every 500th part of all steps, and for each point of the curve. start: the initialization that
    the steps go on from, with the lines until there.
    """
    metrics: tuple[Metric, ...] = start.metrics if start else ()
    progress: tuple[Progress, ...] = start.progress if start else ()
    seconds, since = 0.0, start.provenance.meta_steps_done if start else 0
    began = time.monotonic()
    for step in steps:
        seconds += time.monotonic() - began
        line: Progress | None = None
        point = points is not None and points.due(step.done, step.meta_steps)
        if point or step.done % max(step.meta_steps // LINES, 1) == 0:
            n_tasks = (step.done - since) * step.initialization.recipe.meta.tasks_per_step
            line = Progress(
                meta_steps=step.done,
                seconds=step.initialization.provenance.seconds,
                loss=step.loss,
                tasks_per_second=float(f"{n_tasks / seconds:.4g}") if seconds else None,
            )
            seconds, since = 0.0, step.done
            if point:
                assert points is not None
                line = points.point(step.initialization, line)  # type: ignore[arg-type]
                metrics = (*metrics, line)
            else:
                progress = (*progress, line)
        lined = replace(step.initialization, metrics=metrics, progress=progress)
        yield replace(step, initialization=lined, line=line)
        began = time.monotonic()  # neither measuring nor what the caller does between two steps is training
