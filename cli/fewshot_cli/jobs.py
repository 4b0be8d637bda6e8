"""Whether a job is done by this process or by a team, and how what it says comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from fewshot_cli.output import say
from fewshot_sdk.errors import WorkersStopped

if TYPE_CHECKING:
    from fewshot_sdk.engine.workers import Workers

J = TypeVar("J")
R = TypeVar("R")
WORTH_WORKERS = 40_000  # inner steps: under a minute, starting processes gains nothing


def run_job(work: Callable[[Workers, J], R], job: J, workers: int | None, n_tasks: int, inner_steps: int) -> R:
    """What `work` gives for a job of `inner_steps` steps in which `n_tasks` can be done side by side.

    workers: how many processes; None is one for each core, or this one if the job is short.
    Raises what `work` raises, and SystemExit with 128 + the signal if a team was told to stop.
    """
    from fewshot_sdk.engine.workers import Workers, keep_freed_memory, run_workers

    size = min(workers or n_workers(n_tasks, inner_steps), n_tasks)
    if size == 1:
        keep_freed_memory()
        return work(Workers(), job)
    say(f"starting {size} workers")
    try:
        return run_workers(size, work, job)
    except WorkersStopped as stop:
        raise SystemExit(128 + stop.number) from None


def n_workers(n_tasks: int, inner_steps: int) -> int:
    """One worker for each core, but no more than tasks; one alone if there is little to do, or no loopback."""
    from fewshot_sdk.engine.processors import cores
    from fewshot_sdk.engine.workers import loopback_works

    if inner_steps < WORTH_WORKERS or not loopback_works():
        return 1
    return min(cores(), n_tasks)
