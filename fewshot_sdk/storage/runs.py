"""The trainings in a folder: running, interrupted or finished, and how far each got."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from fewshot_sdk.config.records import InitializationConfig, Metric
from fewshot_sdk.config.regression import RegressionConfig
from fewshot_sdk.errors import DataError, FewshotError
from fewshot_sdk.storage import siblings
from fewshot_sdk.storage.bundles import INITIALIZATION, REGRESSION, WEIGHTS, format_of, read_members
from fewshot_sdk.storage.files import MAX_TEXT_BYTES, read_bounded, read_folder
from fewshot_sdk.storage.locks import is_held
from fewshot_sdk.storage.metrics import METRICS, from_lines, highest, last_line

State = Literal["running", "interrupted", "finished", "damaged"]
_CONFIG = "config.json"
_LOCK = f"{siblings.CHECKPOINT}.lock"
_Config: TypeAlias = InitializationConfig | RegressionConfig


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A training, as far as its files tell.

    state: `running` if a process of this machine holds its lock; `damaged` with the `reason`.
    work: what `done` of `total` counts: outer steps, or epochs of pre-training; total is None before the first
    checkpoint. seconds: spent on this work. last, best: points of the learning curve. changed: seconds since 1970.
    """

    name: str
    state: State
    changed: float
    work: Literal["meta-training", "pre-training"] = "meta-training"
    done: int = 0
    total: int | None = None
    seconds: float = 0.0
    last: Metric | None = None
    best: Metric | None = None
    recipe: str = ""
    data: str = ""
    reason: str = ""


def find_runs(folder: Path) -> list[TrainingRun]:
    """The trainings whose output is directly in a folder, the latest first.

    Only settings and metrics are read, not the weights. Raises DataError if there is no such folder.
    """
    try:
        entries = {entry.name: entry for entry in folder.iterdir()}
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{folder}: {reason}; expected a folder with outputs of `fewshot meta-train`") from None
    names = {
        name.removesuffix(suffix)
        for name in entries
        for suffix in (_LOCK, siblings.CHECKPOINT, siblings.PRETRAINING)
        if name.endswith(suffix)
    }
    names |= {name for name, entry in entries.items() if _is_initialization(entry)}
    names -= {name for name in names if name.endswith(siblings.BEST) and name.removesuffix(siblings.BEST) in names}
    found = [run for name in names if name and (run := _run(folder / name)) is not None]
    return sorted(found, key=lambda run: (-run.changed, run.name))


def _is_initialization(entry: Path) -> bool:
    """Whether an entry is the folder of an initialization, be it damaged."""
    try:
        if (entry / WEIGHTS[1]).is_file():
            return True
        return format_of(read_bounded(entry / _CONFIG, MAX_TEXT_BYTES)) in (INITIALIZATION.name, REGRESSION.name)
    except (OSError, FewshotError):
        return False


def _run(output: Path) -> TrainingRun | None:
    checkpoint, pretraining = siblings.checkpoint_of(output), siblings.pretraining_of(output)
    running = is_held(checkpoint)
    sources = (output / _CONFIG, checkpoint, pretraining, siblings.metrics_of(output))
    changed = max((_changed(path) for path in sources), default=0.0)
    run = TrainingRun(name=output.name, state="running" if running else "interrupted", changed=changed)
    try:
        if _is_initialization(output):
            return _of_files(replace(run, state="finished"), read_folder(output, (_CONFIG, METRICS)))
        if checkpoint.is_file():
            run = _of_files(run, read_members(checkpoint, (_CONFIG, METRICS)))
        elif pretraining.is_file():
            run = _of_epochs(run, read_members(pretraining, (_CONFIG,)))
        elif not running:
            return None  # a lock that a killed process left behind
    except (OSError, FewshotError, LookupError, TypeError, ValueError) as error:
        return replace(run, state="damaged", reason=" ".join(str(error).split()))
    line = last_line(siblings.metrics_of(output)) if running else None
    if line is not None and line.meta_steps > run.done:
        run = replace(run, done=line.meta_steps, seconds=line.seconds)
    return run


def _of_files(run: TrainingRun, files: Mapping[str, bytes]) -> TrainingRun:
    raw = files[_CONFIG]
    kind: type[_Config] = RegressionConfig if format_of(raw) == REGRESSION.name else InitializationConfig
    config = kind.from_json(raw)
    points, _ = from_lines(files.get(METRICS, b""))
    return replace(
        run,
        done=config.provenance.meta_steps_done,
        total=config.recipe.meta.meta_steps,
        seconds=config.provenance.seconds,
        last=points[-1] if points else None,
        best=highest(points),
        recipe=config.recipe.preset,
        data=str(config.recipe.data),
    )


def _of_epochs(run: TrainingRun, files: Mapping[str, bytes]) -> TrainingRun:
    found = json.loads(files[_CONFIG])
    recipe = found["recipe"]
    return replace(
        run,
        work="pre-training",
        done=int(found["done"]),
        total=int(recipe["pretraining"]["epochs"]),
        seconds=float(found["seconds"]),
        recipe=str(recipe["preset"]),
        data=f"{recipe['data']['name']}, split {recipe['data']['split']}",
    )


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
