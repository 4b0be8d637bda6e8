"""`fewshot compare`: initializations on the same tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.files import check_free_file, write_file

if TYPE_CHECKING:
    from fewshot_sdk.datasets import Part
    from fewshot_sdk.records import Comparison, Mode


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


def compare(job: Job, json: bool) -> None:
    """Runs the job, prints its results and perhaps draws them."""
    if len(set(job.inits)) != len(job.inits) or len(job.inits) < 2:
        raise ConfigError(f"expected two or more different initializations, found {', '.join(job.inits)}")
    if job.plot is not None:
        if job.plot.suffix not in (".png", ".svg"):
            raise ConfigError(f"{job.plot}: expected a name that ends in .png or .svg")
        check_free_file(job.plot)
    import fewshot_sdk as sdk
    from fewshot_sdk.comparison import progressions, summarized
    from fewshot_sdk.datasets import data_source, open_dataset

    inits = {name: sdk.load(name) for name in job.inits}
    source = data_source(job.data) if job.data else inits[job.inits[0]].recipe.data
    images = {name: open_dataset(source, init.recipe.preprocessing, job.part, job.root) for name, init in inits.items()}
    found = []
    for shots in job.shots:
        tasks = {
            name: sdk.TaskSampler(data=data, n_way=job.ways, k_shot=shots, n_query=1, seed=job.seed)
            for name, data in images.items()
        }
        running = progressions(inits, tasks, job.n_tasks, job.mode)
        shares = list(progress(running, job.n_tasks, f"comparing, {shots}-shot", lambda _: f"{len(inits)} of them"))
        found.append(summarized(shares, inits, tasks[job.inits[0]], job.mode))
    if json:
        emit_json([comparison.model_dump(mode="json") for comparison in found])
    else:
        emit("\n\n".join(map(table, found)))
    if job.plot is not None:
        from fewshot_sdk.curves import compared

        write_file(job.plot, compared(found, "svg" if job.plot.suffix == ".svg" else "png"))
        say(f"drew {job.plot}")


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
