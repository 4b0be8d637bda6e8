"""Running a job in this process or in several worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from fewshot_cli.output import launched, say
from fewshot_sdk.errors import ConfigError, WorkersStopped

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
    A process that torchrun started does its share of the job as one of torchrun's ranks; only the first one returns.
    Raises what `work` raises, and SystemExit with 128 + the signal if a signal stopped the workers.
    """
    if launched():
        with ranks(workers) as joined:
            _check_ranks(joined, job, n_tasks)
            found = work(joined, job)
        only_the_first(joined)
        return found
    from fewshot_sdk.engine.workers import Workers, keep_freed_memory, run_workers, workers_lack

    size = min(workers or n_workers(n_tasks, inner_steps), n_tasks)
    if size > 1 and (lacking := workers_lack()):
        tell(f"one worker, to the same result, because several need {lacking}")
        size = 1
    if size == 1:
        keep_freed_memory()
        return work(Workers(), job)
    tell(f"starting {size} workers")
    try:
        return run_workers(size, work, job)
    except WorkersStopped as stop:
        raise SystemExit(128 + stop.number) from None


@contextmanager
def ranks(workers: int | None) -> Iterator[Workers]:
    """The ranks that torchrun started, this one connected with the others. workers: what --workers says."""
    from fewshot_sdk.engine.torchrun import joined
    from fewshot_sdk.engine.workers import keep_freed_memory

    if workers is not None:
        raise ConfigError("--workers: torchrun has started the processes that share the tasks; leave this option out")
    keep_freed_memory()
    with joined() as found:
        yield found


def only_the_first(workers: Workers) -> None:
    """Ends all ranks but the first, which goes on alone. Raises SystemExit in the others."""
    if workers.rank > 0:
        raise SystemExit(0)


def _check_ranks(workers: Workers, job: object, n_tasks: int) -> None:
    from fewshot_sdk.engine.compiler import made_with
    from fewshot_sdk.engine.exchange import check_alike

    if workers.size > n_tasks:
        raise ConfigError(f"{workers.size} ranks cannot share {n_tasks} tasks; start at most {n_tasks}")
    check_alike(workers, {"options": job, **made_with()})


def n_workers(n_tasks: int, inner_steps: int) -> int:
    """One worker per core, at most one per task; a single one if the job is short."""
    from fewshot_sdk.engine.processors import cores

    if inner_steps < WORTH_WORKERS:
        return 1
    return min(cores(), n_tasks)
