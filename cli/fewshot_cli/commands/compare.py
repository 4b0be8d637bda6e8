"""`fewshot compare`: initializations on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from fewshot_cli.group import app
from fewshot_cli.jobs import run_job
from fewshot_cli.options import ClassesOf, Json, Root, Seed, SkipSmall, TestData, WorkerCount, options
from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_cli.own_data import Wanted, classes_to_measure
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import check_free_file, write_file

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.initialization import Initialization
    from fewshot_sdk.config.records import Comparison
    from fewshot_sdk.data.class_images import ClassImages
    from fewshot_sdk.engine.workers import Workers


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of `fewshot compare`."""

    inits: Annotated[
        list[str],
        typer.Argument(
            help="Two or more initializations: bundled names, folders or user/repo[@revision] on the Hugging Face Hub.",
            metavar="INIT INIT...",
        ),
    ]
    ways: Annotated[int, typer.Option(min=2, help="Classes per task.")] = 5
    shots: Annotated[
        list[int] | None, typer.Option(min=1, help="Support pictures per class; repeatable. Default: 1 and 5.")
    ] = None
    tasks: Annotated[int, typer.Option(min=2, help="Number of tasks, the same for all.")] = 200
    mode: Annotated[Literal["transductive", "inductive", "frozen"], typer.Option(help="See `fewshot evaluate`.")] = (
        "inductive"
    )
    plot: Annotated[
        Path | None, typer.Option(help="File for a plot of accuracy against inner steps and shots, .png or .svg.")
    ] = None
    json: Json = False
    data: TestData = None
    part: ClassesOf = "test"
    root: Root = None
    skip_small: SkipSmall = False
    seed: Seed = 0
    workers: WorkerCount = None


Job: TypeAlias = tuple[CompareOptions, dict[str, str]]  # and where each initialization was found, with its commit


@app.command()
@options(CompareOptions)
def compare(given: CompareOptions) -> None:
    """Compare initializations on the same tasks.

    Shows paired differences with 95 % intervals, wins and losses.
    """
    if len(set(given.inits)) != len(given.inits) or len(given.inits) < 2:
        raise ConfigError(f"expected two or more different initializations, found {', '.join(given.inits)}")
    if given.plot is not None:
        if given.plot.suffix not in (".png", ".svg"):
            raise ConfigError(f"{given.plot}: expected a name that ends in .png or .svg")
        check_free_file(given.plot)
    from fewshot_sdk.artifacts.opening import load

    inits = {name: load(name) for name in given.inits}
    _data(given, inits)  # decodes the data once for all workers
    steps = sum(max(init.recipe.adaptation.steps, 1) for init in inits.values())
    job: Job = (given, {name: init.source or name for name, init in inits.items()})
    found = run_job(measure, job, given.workers, given.tasks, given.tasks * len(_shots(given)) * steps)
    if given.json:
        emit_json([comparison.model_dump(mode="json") for comparison in found])
    else:
        emit("\n\n".join(map(_table, found)))
    if given.plot is not None:
        from fewshot_sdk.storage.plots import compared

        write_file(given.plot, compared(found, "svg" if given.plot.suffix == ".svg" else "png"))
        say(f"drew {given.plot}")


def _shots(given: CompareOptions) -> list[int]:
    return sorted(set(given.shots or (1, 5)))


def measure(workers: Workers, job: Job) -> list[Comparison]:
    """One comparison per number of shots, the same in every worker; each evaluates its share of the tasks."""
    from fewshot_sdk.artifacts.opening import load
    from fewshot_sdk.data.tasks import TaskSampler
    from fewshot_sdk.meta.comparison import gathered, progressions, summarized

    given, found_at = job
    inits = {name: load(at) for name, at in found_at.items()}
    images, found = _data(given, inits, aloud=False), []
    for shots in _shots(given):
        tasks = {
            name: TaskSampler(data=data, n_way=given.ways, k_shot=shots, n_query=1, seed=given.seed)
            for name, data in images.items()
        }
        running = progressions(inits, tasks, given.tasks, given.mode, workers)
        if workers.rank == 0:
            n = len(workers.share(given.tasks))
            running = progress(running, n, f"comparing, {shots}-shot", lambda _: f"{len(inits)} of them")
        try:
            mine = list(running)
        except KeyboardInterrupt:
            if workers.rank == 0:
                say("\ninterrupted")
            raise SystemExit(130) from None
        found.append(summarized(gathered(mine, given.tasks, workers), inits, tasks[given.inits[0]], given.mode))
    return found


def _data(given: CompareOptions, inits: Mapping[str, Initialization], *, aloud: bool = True) -> dict[str, ClassImages]:
    """The same classes, preprocessed for each initialization."""
    wanted = Wanted(
        data=given.data,
        part=given.part,
        root=given.root,
        skip_small=given.skip_small,
        least=max(_shots(given)) + 1,
    )
    return classes_to_measure(wanted, inits, aloud=aloud)


def _table(found: Comparison) -> str:
    """The comparison for one number of shots, as text."""
    width = max(len(rival.name) for rival in found.rivals)
    what = f"{found.data} {found.ways}-way {found.shots}-shot {found.mode}"
    lines = [f"{what}, the same {found.tasks} tasks, seed {found.seed}"]
    for one in found.rivals:
        memory = f" and {one.memory_mb:,.0f} MB" if one.memory_mb is not None else ""
        accuracy = f"{100 * one.accuracy:6.2f} ± {100 * one.ci95:.2f} %"
        lines.append(f"{one.name:<{width}}  {accuracy}, meta-trained in {one.minutes:.1f} minutes{memory}")
    for pair in found.pairs:
        verdict = "ahead" if pair.difference > 0 else "behind"
        if abs(pair.difference) <= pair.ci95:
            verdict = "no difference seen"
        lines.append(
            f"{pair.first} - {pair.second}: {100 * pair.difference:+.2f} ± {100 * pair.ci95:.2f} points, {verdict}; "
            f"{pair.wins} tasks won, {pair.losses} lost, {pair.ties} tied"
        )
    return "\n".join(lines)
