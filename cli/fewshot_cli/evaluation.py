"""`fewshot evaluate`: one job, done by this process or by several that share its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from fewshot_cli.jobs import run_job
from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_cli.signals import stoppable
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import SIGNATURE, read_folder
from fewshot_sdk.storage.replacement import replace_folder

if TYPE_CHECKING:
    from fewshot_sdk import Initialization, TaskSampler
    from fewshot_sdk.config.records import Baseline, Evaluation, Mode
    from fewshot_sdk.data.class_images import ClassImages
    from fewshot_sdk.data.datasets import Part
    from fewshot_sdk.engine.workers import Team

WAYS, SHOTS = 5, 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """The command's words, parsed; None is the default."""

    init: str
    data: str | None
    part: Part
    root: Path | None
    ways: int | None
    shots: int | None
    n_tasks: int
    modes: tuple[Mode, ...]
    seed: int
    baselines: tuple[Baseline, ...] = ()


def evaluate(job: Job, workers: int | None, *, record: bool, json: bool) -> None:
    """Runs the job, prints and perhaps records its results."""
    from fewshot_sdk.artifacts.initialization import of_numbers
    from fewshot_sdk.artifacts.opening import load_any
    from fewshot_sdk.storage.results import BASELINES

    init = load_any(job.init)
    if init.source:
        if record:
            raise ConfigError(
                f"{job.init} is on the Hub; fewshot pull it --output DIR, then record in DIR and push that"
            )
        job = replace(job, init=init.source)  # each worker gets this very commit, and from the cache
    if of_numbers(init):
        from fewshot_cli import numbers

        numbers.evaluate(job, init, record, json)
        return
    inner_steps = job.n_tasks * max(init.recipe.adaptation.steps, 1)
    _test_data(job, init)  # decoded once, for all
    results = run_job(measure, job, workers, job.n_tasks, inner_steps)
    if json:
        rows = [{k: v for k, v in r.model_dump(exclude_none=True).items() if not k.startswith("data")} for r in results]
        emit_json(rows if len(rows) > 1 else rows[0])
    else:
        for r in results:
            emit(
                f"{100 * r.accuracy:.2f} ± {100 * r.ci95:.2f} % "
                f"({r.ways}-way {r.shots}-shot {r.mode}, {r.tasks} tasks, seed {r.seed})"
                + (f" by {BASELINES[r.baseline]}" if r.baseline else "")
            )
    if record:
        for r in results:
            init = init.with_evaluation(r)
        replace_card(job.init, init.files())


def replace_card(name: str, contents: Mapping[str, bytes]) -> None:
    """Puts files in place of those of the same names in an initialization's folder, and drops its signature."""
    from fewshot_sdk.storage.repositories import locate

    folder = locate(name)
    before = read_folder(folder)
    signed = before.pop(SIGNATURE, None)
    replace_folder(folder, {**before, **contents})
    say(f"added to the card in {folder}")
    if signed:
        say(f"its {SIGNATURE} fits no longer and was removed; sign it again with `fewshot push --sign`")


def measure(team: Team, job: Job) -> list[Evaluation]:
    """The results, in every process of the team; each goes through its share of the tasks."""
    import fewshot_sdk

    init = fewshot_sdk.load(job.init)
    data = _test_data(job, init)
    ways, shots = job.ways or WAYS, job.shots or SHOTS
    sampler = fewshot_sdk.TaskSampler(data=data, n_way=ways, k_shot=shots, n_query=1, seed=job.seed)
    return [result for baseline in job.baselines or (None,) for result in _measure(team, job, init, sampler, baseline)]


def _measure(
    team: Team, job: Job, init: Initialization, sampler: TaskSampler, baseline: Baseline | None
) -> list[Evaluation]:
    from fewshot_sdk.meta.evaluation import accuracies, summaries

    mine: list[dict[Mode, float]] = []

    def means(_: object) -> str:
        return ", ".join(f"{fmean(right[mode] for right in mine):.1%}" for mode in job.modes if mine)

    shares = accuracies(init, sampler, n_tasks=job.n_tasks, modes=job.modes, team=team, baseline=baseline)
    if team.rank == 0:
        shares = progress(shares, len(team.share(job.n_tasks)), "evaluating", means)
    with stoppable(patient=True) as signals:
        for right in shares:
            mine.append(right)
            if signals:
                if team.rank == 0:
                    say("\ninterrupted")
                raise SystemExit(128 + signals[0])
    return [found.replace(part=job.part) for found in summaries(mine, sampler, job.n_tasks, team, baseline)]


def _test_data(job: Job, init: Initialization) -> ClassImages:
    from fewshot_sdk.data.datasets import data_source, open_dataset

    trained_on = init.recipe.data
    source = trained_on if job.data in (None, trained_on.name) else data_source(str(job.data))
    return open_dataset(source, init.recipe.preprocessing, job.part, job.root)
