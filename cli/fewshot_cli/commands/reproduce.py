"""`fewshot reproduce`: the figures of the paper, measured by several processes and kept for resuming."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from fewshot_cli.group import app
from fewshot_cli.jobs import WORTH_WORKERS, run_job
from fewshot_cli.options import Json, WorkerCount, options
from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_sdk.errors import BundleError, ConfigError, OutputExists
from fewshot_sdk.storage.files import check_free, overwrite_file, write_folder
from fewshot_sdk.storage.locks import alone_at

if TYPE_CHECKING:
    from fewshot_sdk.engine.workers import Workers
    from fewshot_sdk.paper.experiment import Begun, Experiment, Measured

RUN = "run.json"


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Options of `fewshot reproduce`."""

    figure: Annotated[
        Literal["taylor", "sine", "gradient-combinations", "overlap", "table1", "table2"],
        typer.Argument(help="A figure or table of the Reptile paper.", show_default=False),
    ]
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write data.json, the plots and README.md to. Default: the figure's name."),
    ] = None
    scale: Annotated[
        Literal["small", "paper"],
        typer.Option(
            help="small: minutes; paper: the paper's settings, which take hours to weeks. taylor has only one scale."
        ),
    ] = "small"
    seeds: Annotated[
        int, typer.Option(min=3, max=30, help="Number of trainings of each kind; more give narrower intervals.")
    ] = 3
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from OUTPUT.checkpoint; what was measured is kept.")
    ] = False
    json: Json = False
    workers: WorkerCount = None

    @property
    def folder(self) -> Path:
        """The folder for the result."""
        return self.output or Path(self.figure)

    @property
    def command(self) -> str:
        """The command that repeats this run."""
        from fewshot_sdk.paper.figures import SEEDS

        more = f" --seeds {self.seeds}" if self.seeds != len(SEEDS) else ""
        return f"fewshot reproduce {self.figure} --scale {self.scale}{more}"

    @property
    def checkpoint(self) -> Path:
        """The folder of the measurements so far: one file per trial, numbered by its place among all trials."""
        return self.folder.with_name(f"{self.folder.name}.checkpoint")


Job: TypeAlias = tuple[ReproduceOptions, tuple[str, ...]]  # and the trials still to run


@app.command()
@options(ReproduceOptions)
def reproduce(given: ReproduceOptions) -> None:
    """Reproduce a figure or table of the Reptile paper.

    Runs over several seeds, and tests whether the result has the shape that the paper reports.
    """
    with alone_at(given.folder, given.checkpoint):
        _reproduce(given)


def _reproduce(given: ReproduceOptions) -> None:
    from fewshot_sdk.storage.plots import check_can_draw

    check_free(given.folder)
    check_can_draw()
    experiment = _experiment(given)  # opens the data before anything is written
    _begin(given)
    say(experiment.about)
    size, workers = 0 if given.figure == "taylor" else WORTH_WORKERS, given.workers
    while missing := _missing(given, experiment):
        try:
            run_job(measure, (given, missing), workers, len(missing), size)
        except SystemExit:
            say(f"stopped; what was measured is kept in {given.checkpoint}, --resume continues")
            raise
        workers = 1  # a trial that failed in a worker fails here again, with its error
    found = _measured(given)
    figure = experiment.figure({name: each.numbers for name, each in found.items()})
    write_folder(given.folder, figure.files())
    shutil.rmtree(given.checkpoint)
    say(f"wrote {given.folder}, after {sum(each.seconds for each in found.values()):.0f} seconds of processor time")
    if given.json:
        emit_json(figure.model_dump(mode="json"))
    else:
        emit(figure.verdict)


def _experiment(given: ReproduceOptions) -> Experiment:
    """What to measure; opens the data."""
    seeds = range(given.seeds)
    if given.figure == "taylor":
        from fewshot_sdk.paper.taylor import taylor

        return taylor(given.command, seeds)
    if given.figure == "sine":
        from fewshot_sdk.paper.sine import sine

        return sine(given.scale, given.command, seeds)
    if given.figure == "gradient-combinations":
        from fewshot_sdk.paper.combinations import gradient_combinations

        return gradient_combinations(given.scale, given.command, seeds)
    if given.figure == "overlap":
        from fewshot_sdk.paper.overlap import overlap

        return overlap(given.scale, given.command, seeds)
    from fewshot_sdk.paper.tables import table

    return table(given.figure, given.scale, given.command, seeds)


def measure(workers: Workers, job: Job) -> int:
    """Run this process's share of the missing trials and save each as soon as it is done; returns how many."""
    given, missing = job
    share = [missing[i] for i in workers.share(len(missing))]
    trials = _trials(given, share)
    try:
        done = list(progress(trials, len(share), given.figure, str, plain_seconds=0) if workers.rank == 0 else trials)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    return len(done)


def _trials(given: ReproduceOptions, names: list[str]) -> Iterator[str]:
    """Run the trials; yields the result of each as text."""
    from fewshot_sdk.paper.experiment import Measured

    experiment = _experiment(given)
    numbered = {name: number for number, name in enumerate(experiment.trials)}
    for name in names:
        began = time.process_time()
        numbers = experiment.trials[name]()
        kept = Measured(trial=name, numbers=tuple(numbers), seconds=time.process_time() - began)
        overwrite_file(given.checkpoint / f"{numbered[name]}.json", kept.model_dump_json().encode())
        yield f"{name}: {', '.join(f'{number:.4g}' for number in numbers)}"


def _begin(given: ReproduceOptions) -> None:
    """Create the checkpoint folder. Raises OutputExists, ConfigError if there is one that may not be continued."""
    from fewshot_sdk.engine.compiler import made_with
    from fewshot_sdk.paper.experiment import Begun

    now = Begun(command=given.command, versions=made_with())
    if not given.checkpoint.exists():
        if given.resume:
            raise ConfigError(f"there is no {given.checkpoint} to continue from; leave --resume out to start")
        write_folder(given.checkpoint, {RUN: now.model_dump_json().encode()})
        return
    if not given.resume:
        raise OutputExists(f"{given.checkpoint} holds an unfinished run; continue it with --resume, or remove it")
    if not (given.checkpoint / RUN).is_file():
        raise BundleError(f"{given.checkpoint} holds no {RUN}; expected what an interrupted `fewshot reproduce` leaves")
    before = Begun.from_json((given.checkpoint / RUN).read_bytes())
    if before != now:
        raise ConfigError(
            f"this is not the run that was interrupted: that was {_described(before)}, this is {_described(now)}; "
            f"continue with the same command and versions, or remove {given.checkpoint}"
        )


def _described(run: Begun) -> str:
    return f"`{run.command}` with {', '.join(f'{name} {version}' for name, version in run.versions.items())}"


def _missing(given: ReproduceOptions, experiment: Experiment) -> tuple[str, ...]:
    done = _measured(given)
    return tuple(name for name in experiment.trials if name not in done)


def _measured(given: ReproduceOptions) -> dict[str, Measured]:
    """The finished trials by name."""
    from fewshot_sdk.paper.experiment import Measured

    files = (path for path in given.checkpoint.glob("*.json") if path.stem.isdigit())
    return {kept.trial: kept for kept in (Measured.from_json(path.read_bytes()) for path in files)}
