"""The work of each process of a training: alone, as one of several workers, or as a rank that torchrun started."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.display import watched
from fewshot_cli.jobs import only_the_first, ranks
from fewshot_cli.signals import stoppable

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.initialization import AnyInitialization, Initialization
    from fewshot_sdk.config.records import Metric
    from fewshot_sdk.engine.workers import Workers
    from fewshot_sdk.meta.preparation import Run


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each worker is given: the training, and whether it is shown as JSON."""

    run: Run
    json: bool


def train_alone(workers: Workers, job: Job) -> Metric | None:
    """Train, in one of the workers; returns the best point of the curve if that is kept.

    Raises SystemExit with 128 + the signal if one came before the end: a result would have to wait for a parent that
    is exiting, too.
    """
    from fewshot_sdk.meta.run import train
    from fewshot_sdk.storage.metrics import highest

    with stoppable(patient=workers.size > 1) as signals, watched("meta-training", json=job.json) as listen:
        last = train(job.run, workers=workers, stop=lambda: bool(signals), on_event=listen)
    _check_finished(last, signals)
    return highest(last.metrics) if job.run.keep_best else None


def train_in_ranks(
    output: Path, settings: Callable[[], tuple[Run, Initialization | None]], workers: int | None, *, json: bool,
    resume: bool,
) -> AnyInitialization:  # fmt: skip
    """Train as one of the ranks that torchrun started; only the first returns. settings: see `train_together`."""
    from fewshot_sdk.engine.torchrun import job, restarted
    from fewshot_sdk.meta.together import train_together

    with ranks(workers) as joined:
        with stoppable(patient=True) as signals, watched("training", json=json) as listen:
            last = train_together(
                joined,
                output,
                settings,
                job=job(),
                resume=resume or restarted(),
                stop=lambda: bool(signals),
                on_event=listen,
            )
        _check_finished(last, signals)
    only_the_first(joined)
    return last


def _check_finished(last: AnyInitialization, signals: list[int]) -> None:
    if last.provenance.meta_steps_done < last.recipe.meta.meta_steps:
        raise SystemExit(128 + (signals or [signal.SIGTERM])[0])
