"""`fewshot reproduce`: the paper's figures, each by one command, its measurements shared by processes and kept."""

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
    """What `fewshot reproduce` takes."""

    figure: Annotated[
        Literal["taylor", "sine", "gradient-combinations", "overlap", "table1", "table2"],
        typer.Argument(help="A figure or table of the Reptile paper.", show_default=False),
    ]
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write data.json, the pictures and README.md to. Default: one of the figure's name."
        ),
    ] = None
    scale: Annotated[
        Literal["small", "paper"],
        typer.Option(
            help="small: minutes; paper: the paper's settings, which take hours to weeks. taylor has but one."
        ),
    ] = "small"
    seeds: Annotated[
        int, typer.Option(min=3, max=30, help="How many trainings of each kind; more of them narrow the intervals.")
    ] = 3
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from OUTPUT.checkpoint; what was measured is kept.")
    ] = False
    json: Json = False
    workers: WorkerCount = None

    @property
    def folder(self) -> Path:
        """Where the result goes."""
        return self.output or Path(self.figure)

    @property
    def command(self) -> str:
        """What repeats it."""
        from fewshot_sdk.paper.figures import SEEDS

        more = f" --seeds {self.seeds}" if self.seeds != len(SEEDS) else ""
        return f"fewshot reproduce {self.figure} --scale {self.scale}{more}"

    @property
    def checkpoint(self) -> Path:
        """The folder of what was measured so far: a file for each trial, by its place among all."""
        return self.folder.with_name(f"{self.folder.name}.checkpoint")


Job: TypeAlias = tuple[ReproduceOptions, tuple[str, ...]]  # and the trials that are still to be made


@app.command()
@options(ReproduceOptions)
def reproduce(given: ReproduceOptions) -> None:
    """Repeat a figure or table of the Reptile paper over several seeds, and say whether its shape holds."""
    with alone_at(given.folder, given.checkpoint):
        _reproduce(given)


def _reproduce(given: ReproduceOptions) -> None:
    from fewshot_sdk.storage.plots import check_can_draw

    check_free(given.folder)
    check_can_draw()
    experiment = _experiment(given)  # opens the data, before anything is written
    _begin(given)
    say(experiment.about)
    size, workers = 0 if given.figure == "taylor" else WORTH_WORKERS, given.workers
    while missing := _missing(given, experiment):
        try:
            run_job(measure, (given, missing), workers, len(missing), size)
        except SystemExit:
            say(f"stopped; what was measured is kept in {given.checkpoint}, --resume goes on")
            raise
        workers = 1  # what a worker could not measure fails here again, and says why
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
    """What is to be measured; opens the data."""
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
    """Makes this process's share of the missing trials, and keeps each as soon as it is there; returns how many."""
    given, missing = job
    mine = [missing[i] for i in workers.share(len(missing))]
    trials = _trials(given, mine)
    try:
        done = list(progress(trials, len(mine), given.figure, str, plain_seconds=0) if workers.rank == 0 else trials)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    return len(done)


def _trials(given: ReproduceOptions, names: list[str]) -> Iterator[str]:
    """Yields what each gave, as words."""
    from fewshot_sdk.paper.experiment import Measured

    experiment = _experiment(given)
    places = {name: place for place, name in enumerate(experiment.trials)}
    for name in names:
        began = time.process_time()
        numbers = experiment.trials[name]()
        kept = Measured(trial=name, numbers=tuple(numbers), seconds=time.process_time() - began)
        overwrite_file(given.checkpoint / f"{places[name]}.json", kept.model_dump_json().encode())
        yield f"{name}: {', '.join(f'{number:.4g}' for number in numbers)}"


def _begin(given: ReproduceOptions) -> None:
    """Makes the folder of what is measured. Raises OutputExists, ConfigError if one is there that is not to go on."""
    from fewshot_sdk.engine.compiler import made_with
    from fewshot_sdk.paper.experiment import Begun

    now = Begun(command=given.command, versions=made_with())
    if not given.checkpoint.exists():
        if given.resume:
            raise ConfigError(f"there is no {given.checkpoint} to go on from; leave --resume out to begin")
        write_folder(given.checkpoint, {RUN: now.model_dump_json().encode()})
        return
    if not given.resume:
        raise OutputExists(f"{given.checkpoint} holds an unfinished one; continue it with --resume, or remove it")
    if not (given.checkpoint / RUN).is_file():
        raise BundleError(f"{given.checkpoint} holds no {RUN}; expected what an interrupted `fewshot reproduce` left")
    before = Begun.from_json((given.checkpoint / RUN).read_bytes())
    if before != now:
        raise ConfigError(
            f"this is not what was interrupted: that was {_words(before)}, this is {_words(now)}; go on as it was "
            f"begun, or remove {given.checkpoint}"
        )


def _words(run: Begun) -> str:
    return f"`{run.command}` with {', '.join(f'{name} {version}' for name, version in run.versions.items())}"


def _missing(given: ReproduceOptions, experiment: Experiment) -> tuple[str, ...]:
    done = _measured(given)
    return tuple(name for name in experiment.trials if name not in done)


def _measured(given: ReproduceOptions) -> dict[str, Measured]:
    """What each trial that is done gave."""
    from fewshot_sdk.paper.experiment import Measured

    files = (path for path in given.checkpoint.glob("*.json") if path.stem.isdigit())
    return {kept.trial: kept for kept in (Measured.from_json(path.read_bytes()) for path in files)}
