"""`fewshot compare`: initializations on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.jobs import run_job
from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import check_free_file, write_file

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.initialization import Initialization
    from fewshot_sdk.config.records import Comparison, Mode
    from fewshot_sdk.data.class_images import ClassImages
    from fewshot_sdk.data.datasets import Part
    from fewshot_sdk.engine.workers import Team


@dataclass(frozen=True, kw_only=True)
class Job:
    """The command's words, parsed."""

    inits: tuple[str, ...]
    data: str | None
    part: Part
    root: Path | None
    ways: int
    shots: tuple[int, ...]
    n_tasks: int
    mode: Mode
    seed: int
    plot: Path | None
    found_at: tuple[str, ...] = ()


def compare(job: Job, workers: int | None, json: bool) -> None:
    """Runs the job, prints its results and perhaps draws them."""
    if len(set(job.inits)) != len(job.inits) or len(job.inits) < 2:
        raise ConfigError(f"expected two or more different initializations, found {', '.join(job.inits)}")
    if job.plot is not None:
        if job.plot.suffix not in (".png", ".svg"):
            raise ConfigError(f"{job.plot}: expected a name that ends in .png or .svg")
        check_free_file(job.plot)
    from fewshot_sdk import load

    inits = {name: load(name) for name in job.inits}
    job = replace(job, found_at=tuple(init.source or name for name, init in inits.items()))  # the very commits
    _data(job, inits)  # decoded once, for all
    steps = sum(max(init.recipe.adaptation.steps, 1) for init in inits.values())
    found = run_job(measure, job, workers, job.n_tasks, job.n_tasks * len(job.shots) * steps)
    if json:
        emit_json([comparison.model_dump(mode="json") for comparison in found])
    else:
        emit("\n\n".join(map(table, found)))
    if job.plot is not None:
        from fewshot_sdk.storage.plots import compared

        write_file(job.plot, compared(found, "svg" if job.plot.suffix == ".svg" else "png"))
        say(f"drew {job.plot}")


def measure(team: Team, job: Job) -> list[Comparison]:
    """One for each number of shots, in every process of the team; each goes through its share of the tasks."""
    from fewshot_sdk import TaskSampler, load
    from fewshot_sdk.meta.comparison import gathered, progressions, summarized

    inits = {name: load(at) for name, at in zip(job.inits, job.found_at, strict=True)}
    images, found = _data(job, inits), []
    for shots in job.shots:
        tasks = {
            name: TaskSampler(data=data, n_way=job.ways, k_shot=shots, n_query=1, seed=job.seed)
            for name, data in images.items()
        }
        running = progressions(inits, tasks, job.n_tasks, job.mode, team)
        if team.rank == 0:
            n = len(team.share(job.n_tasks))
            running = progress(running, n, f"comparing, {shots}-shot", lambda _: f"{len(inits)} of them")
        try:
            mine = list(running)
        except KeyboardInterrupt:
            if team.rank == 0:
                say("\ninterrupted")
            raise SystemExit(130) from None
        found.append(summarized(gathered(mine, job.n_tasks, team), inits, tasks[job.inits[0]], job.mode))
    return found


def _data(job: Job, inits: Mapping[str, Initialization]) -> dict[str, ClassImages]:
    """The same classes as each initialization sees them."""
    from fewshot_sdk.data.datasets import data_source, open_dataset

    source = data_source(job.data) if job.data else inits[job.inits[0]].recipe.data
    return {name: open_dataset(source, init.recipe.preprocessing, job.part, job.root) for name, init in inits.items()}


def table(found: Comparison) -> str:
    """One number of shots, for people."""
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
