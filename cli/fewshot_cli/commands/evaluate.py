"""`fewshot evaluate`, in this process or in several that share the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fewshot_cli.group import app
from fewshot_cli.jobs import run_job
from fewshot_cli.options import ClassesOf, Init, Json, Root, Seed, SkipSmall, TestData, WorkerCount, options
from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_cli.own_data import Wanted, classes_to_measure
from fewshot_cli.signals import stoppable
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import SIGNATURE, read_folder
from fewshot_sdk.storage.replacement import replace_folder

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.initialization import AnyInitialization, Initialization, NumberInitialization
    from fewshot_sdk.config.records import Baseline, Evaluation, Mode
    from fewshot_sdk.data.class_images import ClassImages
    from fewshot_sdk.data.tasks import TaskSampler
    from fewshot_sdk.engine.workers import Workers

WAYS, SHOTS = 5, 1
PATIENCE = 60.0  # seconds for another evaluation to write its card


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of `fewshot evaluate`; None means the default."""

    init: Init
    ways: Annotated[int | None, typer.Option(min=2, help="Classes per task. Default: 5.")] = None
    shots: Annotated[
        int | None,
        typer.Option(min=1, help="Support pictures per class (default: 1), or points for numbers (default: 10)."),
    ] = None
    tasks: Annotated[int, typer.Option(min=2, help="Number of tasks; an interval needs two.")] = 1000
    transductive: Annotated[
        bool | None,
        typer.Option(
            "--transductive/--inductive",
            help="Classify a task's queries together, or each alone with the support set (default).",
        ),
    ] = None
    mode: Annotated[
        Literal["transductive", "inductive", "frozen", "all"] | None,
        typer.Option(help="transductive, inductive: as above; frozen: like an exported file; all: all three."),
    ] = None
    baseline: Annotated[
        Literal["prototypes", "probe", "random", "all"] | None,
        typer.Option(
            help="Measure a baseline on the same tasks instead: class means of the initialization's features without a "
            "gradient step, a linear probe on them, or the same steps from random weights.",
        ),
    ] = None
    record: Annotated[bool, typer.Option(help="Add the result to the initialization's card.")] = False
    json: Json = False
    data: TestData = None
    part: ClassesOf = "test"
    root: Root = None
    skip_small: SkipSmall = False
    seed: Seed = 0
    workers: WorkerCount = None

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How the queries are classified, one or several ways."""
        chosen = self.mode or ("transductive" if self.transductive else "inductive")
        return ("transductive", "inductive", "frozen") if chosen == "all" else (chosen,)

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """What to measure instead of the initialization."""
        if self.baseline == "all":
            return ("prototypes", "probe", "random")
        return () if self.baseline is None else (self.baseline,)


@app.command()
@options(EvaluateOptions)
def evaluate(given: EvaluateOptions) -> None:
    """Measure an initialization on tasks of new classes."""
    named = "transductive" if given.transductive else "inductive"
    if given.transductive is not None and given.mode not in (None, named):
        raise typer.BadParameter(f"--{named} and --mode {given.mode} contradict each other")
    from fewshot_sdk.artifacts.initialization import of_numbers
    from fewshot_sdk.artifacts.opening import load_any

    init = load_any(given.init)
    if init.source:
        if given.record:
            raise ConfigError(
                f"{given.init} is on the Hub; run `fewshot pull {given.init} --output DIR`, record in DIR and push DIR"
            )
        given = replace(given, init=init.source)  # so that each worker loads this commit, from the cache
    if of_numbers(init):
        _on_numbers(given, init)
    else:
        _on_pictures(given, init)


def _on_pictures(given: EvaluateOptions, init: Initialization) -> None:
    from fewshot_sdk.storage.cards import BASELINES

    inner_steps = given.tasks * max(init.recipe.adaptation.steps, 1)
    _test_data(given, init)  # decodes the data once for all workers
    results = run_job(measure, given, given.workers, given.tasks, inner_steps)
    if given.json:
        rows = [{k: v for k, v in r.model_dump(exclude_none=True).items() if not k.startswith("data")} for r in results]
        emit_json(rows if len(rows) > 1 else rows[0])
    else:
        for r in results:
            emit(
                f"{100 * r.accuracy:.2f} ± {100 * r.ci95:.2f} % "
                f"({r.ways}-way {r.shots}-shot {r.mode}, {r.tasks} tasks, seed {r.seed})"
                + (f" by {BASELINES[r.baseline]}" if r.baseline else "")
            )
    if given.record:
        _record(given.init, init, results)


def _on_numbers(given: EvaluateOptions, init: NumberInitialization) -> None:
    from fewshot_sdk.meta.regression import POINTS, summarized, wave_errors

    if (
        given.baselines
        or given.data
        or given.root
        or given.skip_small
        or given.part != "test"
        or given.modes != ("inductive",)
        or given.ways
    ):
        raise ConfigError(
            f"{given.init} is for numbers: evaluate takes only --shots, --tasks, --seed, --record and --json with it; "
            "leave out other options"
        )
    points, values = given.shots or POINTS, list[float]()
    errors = wave_errors(init, n_waves=given.tasks, n_points=points, seed=given.seed)
    for value in progress(errors, given.tasks, "evaluating", lambda _: f"{fmean(values):.4f}" if values else ""):
        values.append(value)
    found = summarized(values, init, points, given.seed)
    if given.json:
        emit_json(found.model_dump())
    else:
        emit(
            f"mean squared error {found.mean_squared_error:.4f} ± {found.ci95:.4f} ({found.data}, {found.steps} "
            f"steps on {found.points} points, {found.waves} waves, seed {found.seed})"
        )
    if given.record:
        _record(given.init, init, [found])


def _record(name: str, measured: AnyInitialization, results: Sequence[object]) -> None:
    """Add results to the card of an initialization as it is by now: another evaluation may have added its own.

    Raises ConfigError if it has other weights than those measured.
    """
    from fewshot_sdk.artifacts.opening import load_any
    from fewshot_sdk.storage.locks import alone_at
    from fewshot_sdk.storage.repositories import locate

    folder = locate(name)
    with alone_at(folder, folder.resolve(), patience=PATIENCE):
        init: Any = load_any(name)  # for pictures or numbers, as the results are
        if init.sha256 != measured.sha256:
            raise ConfigError(f"{folder} has other weights than when it was measured; evaluate it again")
        for result in results:
            init = init.with_evaluation(result)
        _replace_card(folder, init.files())


def _replace_card(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Replace files of an initialization's folder, and remove its signature, which no longer fits."""
    before = read_folder(folder)
    signed = before.pop(SIGNATURE, None)
    replace_folder(folder, {**before, **contents})
    say(f"added to the card in {folder}")
    if signed:
        say(f"removed its {SIGNATURE}, which no longer fits; sign it again with `fewshot push --sign`")


def measure(workers: Workers, given: EvaluateOptions) -> list[Evaluation]:
    """The results, the same in every worker; each evaluates its share of the tasks."""
    from fewshot_sdk.artifacts.opening import load
    from fewshot_sdk.data.tasks import TaskSampler

    init = load(given.init)
    data = _test_data(given, init, aloud=False)
    ways, shots = given.ways or WAYS, given.shots or SHOTS
    sampler = TaskSampler(data=data, n_way=ways, k_shot=shots, n_query=1, seed=given.seed)
    return [
        result
        for baseline in given.baselines or (None,)
        for result in _measure(workers, given, init, sampler, baseline)
    ]


def _measure(
    workers: Workers, given: EvaluateOptions, init: Initialization, sampler: TaskSampler, baseline: Baseline | None
) -> list[Evaluation]:
    from fewshot_sdk.meta.evaluation import accuracies, summaries

    measured: list[dict[Mode, float]] = []

    def means(_: object) -> str:
        return ", ".join(f"{fmean(accuracy[mode] for accuracy in measured):.1%}" for mode in given.modes if measured)

    running = accuracies(init, sampler, n_tasks=given.tasks, modes=given.modes, workers=workers, baseline=baseline)
    if workers.rank == 0:
        running = progress(running, len(workers.share(given.tasks)), "evaluating", means)
    with stoppable(patient=True) as signals:
        for accuracy in running:
            measured.append(accuracy)
            if signals:
                if workers.rank == 0:
                    say("\ninterrupted")
                raise SystemExit(128 + signals[0])
    return [found.replace(part=given.part) for found in summaries(measured, sampler, given.tasks, workers, baseline)]


def _test_data(given: EvaluateOptions, init: Initialization, *, aloud: bool = True) -> ClassImages:
    wanted = Wanted(
        data=given.data,
        part=given.part,
        root=given.root,
        skip_small=given.skip_small,
        least=(given.shots or SHOTS) + 1,
    )
    return classes_to_measure(wanted, {given.init: init}, aloud=aloud)[given.init]
