"""`fewshot reproduce`: the paper's figures, each by one command, its measurements shared by processes and kept."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fewshot_cli.jobs import WORTH_A_TEAM, run_job
from fewshot_cli.locks import alone_at
from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_sdk.errors import BundleError, ConfigError, OutputExists
from fewshot_sdk.storage.files import check_free, overwrite_file, write_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fewshot_sdk.engine.workers import Team
    from fewshot_sdk.paper.experiment import Begun, Experiment, Measured

Name = Literal["taylor", "sine", "gradient-combinations", "overlap", "table1", "table2"]
Size = Literal["small", "paper"]
RUN = "run.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """The command's words, parsed. missing: the trials that are still to be made."""

    name: Name
    scale: Size
    n_seeds: int
    output: Path
    resume: bool
    missing: tuple[str, ...] = ()

    @cached_property
    def command(self) -> str:
        """What repeats it."""
        from fewshot_sdk.paper.figures import SEEDS

        more = f" --seeds {self.n_seeds}" if self.n_seeds != len(SEEDS) else ""
        return f"fewshot reproduce {self.name} --scale {self.scale}{more}"

    @cached_property
    def experiment(self) -> Experiment:
        """What is to be measured; opens the data."""
        seeds = range(self.n_seeds)
        if self.name == "taylor":
            from fewshot_sdk.paper.taylor import taylor

            return taylor(self.command, seeds)
        if self.name == "sine":
            from fewshot_sdk.paper.sine import sine

            return sine(self.scale, self.command, seeds)
        if self.name == "gradient-combinations":
            from fewshot_sdk.paper.combinations import gradient_combinations

            return gradient_combinations(self.scale, self.command, seeds)
        if self.name == "overlap":
            from fewshot_sdk.paper.overlap import overlap

            return overlap(self.scale, self.command, seeds)
        from fewshot_sdk.paper.tables import table

        return table(self.name, self.scale, self.command, seeds)

    @property
    def checkpoint(self) -> Path:
        """The folder of what was measured so far: a file for each trial, by its place among all."""
        return self.output.with_name(f"{self.output.name}.checkpoint")


def reproduce(job: Job, workers: int | None, json: bool) -> None:
    """Makes one figure, and writes its data, pictures and verdict. Raises OutputExists if another process does."""
    with alone_at(job.output, job.checkpoint):
        _reproduce(job, workers, json)


def _reproduce(job: Job, workers: int | None, json: bool) -> None:
    from fewshot_sdk.paper.figures import check_can_draw

    check_free(job.output)
    check_can_draw()
    about = job.experiment.about  # opens the data, before anything is written
    _begin(job)
    say(about)
    size = 0 if job.name == "taylor" else WORTH_A_TEAM
    while missing := _missing(job):
        try:
            run_job(measure, replace(job, missing=missing), workers, len(missing), size)
        except SystemExit:
            say(f"stopped; what was measured is kept in {job.checkpoint}, --resume goes on")
            raise
        workers = 1  # what a worker could not measure fails here again, and says why
    found = _measured(job)
    figure = job.experiment.figure({name: each.numbers for name, each in found.items()})
    write_folder(job.output, figure.files())
    shutil.rmtree(job.checkpoint)
    say(f"wrote {job.output}, after {sum(each.seconds for each in found.values()):.0f} seconds of processor time")
    if json:
        emit_json(figure.model_dump(mode="json"))
    else:
        emit(figure.verdict)


def measure(team: Team, job: Job) -> int:
    """Makes this process's share of the missing trials, and keeps each as soon as it is there; returns how many."""
    mine = [job.missing[i] for i in team.share(len(job.missing))]
    trials = _trials(job, mine)
    try:
        done = list(progress(trials, len(mine), job.name, str, plain_seconds=0) if team.rank == 0 else trials)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    return len(done)


def _trials(job: Job, names: list[str]) -> Iterator[str]:
    """Yields what each gave, as words."""
    from fewshot_sdk.paper.experiment import Measured

    places = {name: place for place, name in enumerate(job.experiment.trials)}
    for name in names:
        began = time.process_time()
        numbers = job.experiment.trials[name]()
        kept = Measured(trial=name, numbers=tuple(numbers), seconds=time.process_time() - began)
        overwrite_file(job.checkpoint / f"{places[name]}.json", kept.model_dump_json().encode())
        yield f"{name}: {', '.join(f'{number:.4g}' for number in numbers)}"


def _begin(job: Job) -> None:
    """Makes the folder of what is measured. Raises OutputExists, ConfigError if one is there that is not to go on."""
    from fewshot_sdk.engine.compiler import made_with
    from fewshot_sdk.paper.experiment import Begun

    now = Begun(command=job.command, versions=made_with())
    if not job.checkpoint.exists():
        if job.resume:
            raise ConfigError(f"there is no {job.checkpoint} to go on from; leave --resume out to begin")
        write_folder(job.checkpoint, {RUN: now.model_dump_json().encode()})
        return
    if not job.resume:
        raise OutputExists(f"{job.checkpoint} holds an unfinished one; continue it with --resume, or remove it")
    if not (job.checkpoint / RUN).is_file():
        raise BundleError(f"{job.checkpoint} holds no {RUN}; expected what an interrupted `fewshot reproduce` left")
    before = Begun.from_json((job.checkpoint / RUN).read_bytes())
    if before != now:
        raise ConfigError(
            f"this is not what was interrupted: that was {_words(before)}, this is {_words(now)}; go on as it was "
            f"begun, or remove {job.checkpoint}"
        )


def _words(run: Begun) -> str:
    return f"`{run.command}` with {', '.join(f'{name} {version}' for name, version in run.versions.items())}"


def _missing(job: Job) -> tuple[str, ...]:
    done = _measured(job)
    return tuple(name for name in job.experiment.trials if name not in done)


def _measured(job: Job) -> dict[str, Measured]:
    """What each trial that is done gave."""
    from fewshot_sdk.paper.experiment import Measured

    files = (path for path in job.checkpoint.glob("*.json") if path.stem.isdigit())
    return {kept.trial: kept for kept in (Measured.from_json(path.read_bytes()) for path in files)}
