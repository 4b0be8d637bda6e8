"""A training run in a group of ranks on several machines: the same bits as in one process, whichever machine is lost.

No disk need be shared. The first rank of each machine keeps a checkpoint there; at the start the newest of them goes to
all. Where machines do share the folder, one of them writes to it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from fewshot_sdk.artifacts.initialization import AnyInitialization, Initialization
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.recipe_settings import flat, table_of
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.exchange import agreed, awaited, check_alike, sent, texts
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import BundleError, ConfigError, OutputExists, TrainingDiverged
from fewshot_sdk.meta.events import Listener, Reading, ignore
from fewshot_sdk.meta.preparation import Run, checkpoint_of, prepare, pretraining_of, tasks_of
from fewshot_sdk.meta.regression import meta_train_on_numbers
from fewshot_sdk.meta.run import train
from fewshot_sdk.meta.training import meta_train
from fewshot_sdk.storage.bundles import read_archive
from fewshot_sdk.storage.files import check_free, overwrite_file, sha256
from fewshot_sdk.storage.locks import alone_at
from fewshot_sdk.storage.siblings import check_output

R = TypeVar("R")
_SEEN_WITHIN = 90  # seconds until a file that another machine has written is seen on a network disk


def train_together(
    workers: Workers,
    output: Path,
    settings: Callable[[], tuple[Run, Initialization | None]],
    *,
    job: str = "",
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_event: Listener = ignore,
) -> AnyInitialization:
    """Train as one rank of a group; every rank calls this. The first one writes `output`, as `train_to_folder` does.

    settings: returns the run and the weights it begins with, if they are not random. job: what the starts of one job
    have in common, such as a scheduler's number; unfinished work of the same job is continued. resume: whether that of
    others is, too. Unlike in `train_to_folder`, there need not be any. stop: as for `train`.
    Raises, in every rank: ConfigError, naming rank and settings, if ranks were started with different ones, or do not
    compute the same bits; OutputExists as `reserved` does; and whatever any of them raises before the outer steps.
    """
    first = workers.rank == 0
    notify = on_event if first else ignore
    with _reserved(workers, output, job, resume) as keeps:
        run, init = _first_on_each_machine(workers, settings)
        n_tasks = run.recipe.meta.tasks_per_step
        if workers.size > n_tasks:
            raise ConfigError(f"{workers.size} ranks cannot share {n_tasks} tasks; start at most {n_tasks}")
        check_alike(workers, {**_settings(run), "goes on from:": init.sha256 if init else "random weights"})
        if isinstance(run.recipe, Recipe):
            notify(Reading(data=run.recipe.data.name))
        digest = _first_on_each_machine(workers, partial(_digest, run))
        check_alike(workers, {"other data:": digest})
        check_alike(workers, {"another result for the same task:": awaited(workers, partial(_first_step, run))})
        for path in (run.checkpoint, run.pretraining):
            _share_newest(workers, path, keeps)
        awaited(workers, partial(prepare, run, init, _but_reading(on_event)) if first else _nothing)
        _share_newest(workers, run.checkpoint, keeps)
        exchanging = workers if run.device else replace(workers, device=None)
        return train(run, workers=exchanging, keeps=keeps, stop=stop, on_event=on_event)


def _first_on_each_machine(workers: Workers, work: Callable[[], R]) -> R:
    """The result of what every rank does, the first of each machine before the others, which find what it decodes."""
    results: list[R] = []
    for now in (workers.leads, not workers.leads):
        results += awaited(workers, (lambda: [work()]) if now else list)
    return results[0]


@contextmanager
def _reserved(workers: Workers, output: Path, job: str, resume: bool) -> Iterator[bool]:
    """Reserve `output` for this group on all its machines; whether this rank is the one to write to its folder.

    A note beside the checkpoint, with a mark drawn by the first rank, tells the machines whether they share the folder,
    and later starts which job the unfinished work is of.
    """
    agreed(workers, lambda: check_output(output))
    note, unfinished = _note_of(output), (checkpoint_of(output), pretraining_of(output))
    mark = sent(workers, secrets.token_bytes(16), 0).hex()
    of_this_job = bool(job) and _noted(note).get("job") == job
    continues, keeps = workers.any(resume or of_this_job), False
    with ExitStack() as stack:

        def reserve() -> bool:
            if _noted(note).get("mark") == mark:
                return False
            try:
                stack.enter_context(alone_at(output, checkpoint_of(output)))
            except OutputExists:
                if _seen(lambda: _noted(note).get("mark") == mark):
                    return False
                raise
            check_free(output)
            for path in unfinished:
                if path.exists() and not continues:
                    raise OutputExists(
                        f"{path} holds an unfinished training run; continue it with --resume, or remove it"
                    )
            overwrite_file(note, json.dumps({"job": job, "mark": mark}).encode())
            return True

        try:
            for rank in range(workers.size):
                keeps |= agreed(workers, reserve if rank == workers.rank and workers.leads else bool)
            yield keeps
        finally:
            if keeps and not any(path.exists() for path in unfinished):
                note.unlink(missing_ok=True)


def _note_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.job")


def _noted(note: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        found = json.loads(note.read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def _seen(there: Callable[[], bool]) -> bool:
    """Whether it is there, within a time; a network disk may show for a while what was there before."""
    until = time.monotonic() + _SEEN_WITHIN
    while not (found := there()) and time.monotonic() < until:
        time.sleep(0.5)
    return found


def _settings(run: Run) -> dict[str, object]:
    """What must be the same in all ranks, besides data."""
    gpu = torch.cuda.get_device_name(run.device) if run.device and run.device.type == "cuda" else None
    return {
        **flat(table_of(run.recipe)),
        **flat({"versions": made_with(gpu)}),
        "seed": run.seed,
        "evaluate_every": run.evaluate_every,
        "checkpoint_every": run.checkpoint_every,
        "PyTorch's instructions:": torch.backends.cpu.get_cpu_capability(),
    }


def _digest(run: Run) -> str:
    """The hash of the training data; empty for numbers, which are computed."""
    return tasks_of(run, run.recipe).data.digest if isinstance(run.recipe, Recipe) else ""


def _first_step(run: Run) -> str:
    """The hash of random weights after an outer step with one task, which machines of different kinds may not share."""
    recipe = run.recipe
    meta = recipe.meta.replace(tasks_per_step=1, meta_steps=1)
    try:
        if isinstance(recipe, Recipe):
            tasks = tasks_of(run, recipe)
            return next(meta_train(recipe.replace(meta=meta), tasks, device=run.device)).initialization.sha256
        return next(meta_train_on_numbers(recipe.replace(meta=meta), seed=run.seed)).initialization.sha256
    except TrainingDiverged:  # random weights are not what the run may begin with
        return "diverged"


def _share_newest(workers: Workers, path: Path, keeps: bool) -> None:
    """Give all ranks the file with the most steps or epochs among theirs; a damaged one does not count.

    Raises BundleError if there are damaged ones only.
    """
    mine, done, damage = b"", -1, ""
    if path.exists():
        try:
            mine, done = path.read_bytes(), _progress(path)
        except BundleError as error:
            damage = str(error)
    found = [json.loads(text) for text in texts(workers, json.dumps([done, sha256(mine), damage]))]
    most, expected, _ = max(found, key=lambda each: each[0])
    if most < 0:
        damages = [each[2] for each in found if each[2]]
        if damages:
            raise BundleError(damages[0])
        return
    source = [each[:2] for each in found].index([most, expected])
    newest = sent(workers, mine, source)

    def take() -> None:
        if keeps and sha256(mine) != expected:
            overwrite_file(path, newest)

    agreed(workers, take)
    if not _seen(lambda: path.exists() and sha256(path.read_bytes()) == expected):
        raise BundleError(
            f"{path} is not what rank {source} has sent; is it on a disk that shows what was there before?"
        )


def _progress(path: Path) -> int:
    """The outer steps or epochs in a file of unfinished work. Raises BundleError if it is damaged."""
    config = json.loads(read_archive(path).get("config.json", b"{}"))
    found = config.get("provenance", {}).get("meta_steps_done", config.get("done"))
    if not isinstance(found, int):
        raise BundleError(f"{path} does not hold unfinished training; remove it and start again")
    return found


def _but_reading(on_event: Listener) -> Listener:
    """A listener for all events but the one that is told before."""
    return lambda event: None if isinstance(event, Reading) else on_event(event)


def _nothing() -> None:
    pass
