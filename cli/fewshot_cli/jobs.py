"""Running a job in this process or in several worker processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from fewshot_cli.output import say
from fewshot_sdk.errors import WorkersStopped

if TYPE_CHECKING:
    from fewshot_sdk.engine.workers import Workers

J = TypeVar("J")
R = TypeVar("R")
WORTH_WORKERS = 40_000  # inner steps; for less, about a minute, starting processes gains nothing


def run_job(
    work: Callable[[Workers, J], R],
    job: J,
    workers: int | None,
    n_tasks: int,
    inner_steps: int,
    tell: Callable[[str], None] = say,
) -> R:
    """The result of `work` for a job of `inner_steps` steps in which `n_tasks` can run side by side.

    workers: number of processes; None: one per core, or only this one if the job is short. tell: prints a message.
    Raises what `work` raises, and SystemExit with 128 + the signal if a signal stopped the workers.
    """
    from fewshot_sdk.engine.workers import Workers, keep_freed_memory, run_workers

    size = min(workers or n_workers(n_tasks, inner_steps), n_tasks)
    if size == 1:
        keep_freed_memory()
        return work(Workers(), job)
    tell(f"starting {size} workers")
    try:
        return run_workers(size, work, job)
    except WorkersStopped as stop:
        raise SystemExit(128 + stop.number) from None


def n_workers(n_tasks: int, inner_steps: int) -> int:
    """One worker per core, at most one per task; a single one if the job is short or there is no loopback."""
    from fewshot_sdk.engine.processors import cores
    from fewshot_sdk.engine.workers import loopback_works

    if inner_steps < WORTH_WORKERS or not loopback_works():
        return 1
    return min(cores(), n_tasks)
