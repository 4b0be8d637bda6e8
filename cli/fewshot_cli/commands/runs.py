"""`fewshot runs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Json
from fewshot_cli.output import clock, emit, emit_json, say

if TYPE_CHECKING:
    from fewshot_sdk.config.records import Metric
    from fewshot_sdk.storage.runs import TrainingRun


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="Folder that holds outputs of meta-train.", metavar="[DIR]")] = Path(),
    json: Json = False,
) -> None:
    """List the meta-trainings in a folder, the latest first.

    Shows which are running, interrupted or finished, how far each got, its accuracy on held-out classes, and the time.
    """
    from fewshot_sdk.storage.runs import find_runs

    found = find_runs(folder)
    if json:
        emit_json([_fields(run) for run in found])
        return
    if not found:
        say(f"no trainings in {folder.absolute()}; fewshot meta-train --output DIR makes one")
        return
    rows = [("run", "state", "step", "accuracy", "best", "time", "recipe", "data"), *map(_row, found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row, run in zip(rows, [None, *found], strict=True):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        emit(f"{text}  {run.reason}" if run and run.reason else text)


def _row(run: TrainingRun) -> tuple[str, ...]:
    of = "?" if run.total is None else run.total
    unit = "epoch " if run.work == "pre-training" else ""
    step = "" if run.state == "damaged" else f"{unit}{run.done} of {of}"
    accuracy = f"{run.last.accuracy:.1%} ± {run.last.ci95:.1%}" if run.last else ""
    best = f"{run.best.accuracy:.1%} at {run.best.meta_steps}" if run.best else ""
    seconds = "" if run.state == "damaged" else clock(run.seconds)
    return run.name, run.state, step, accuracy, best, seconds, run.recipe, run.data


def _fields(run: TrainingRun) -> dict[str, object]:
    return {**vars(run), "last": _point(run.last), "best": _point(run.best)}


def _point(metric: Metric | None) -> dict[str, object] | None:
    if metric is None:
        return None
    return {"step": metric.meta_steps, "accuracy": metric.accuracy, "ci95": metric.ci95}
