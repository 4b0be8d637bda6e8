"""A training run, from the start or a checkpoint to a folder; interrupted runs continue to the same bits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import overload

import torch

from fewshot_sdk.artifacts.initialization import (
    AnyInitialization,
    Initialization,
    NumberInitialization,
    files_of_run,
    save_checkpoint,
)
from fewshot_sdk.artifacts.opening import load_any
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.regression import Regression
from fewshot_sdk.engine.compiled import runs_in_c
from fewshot_sdk.engine.compiler import instructions
from fewshot_sdk.engine.exchange import agreed
from fewshot_sdk.engine.workers import Workers, run_workers
from fewshot_sdk.errors import MissingExtra, OutputExists, SaveError
from fewshot_sdk.meta.curve import Interrupted
from fewshot_sdk.meta.events import Began, Kept, Listener, Unsaved, ignore
from fewshot_sdk.meta.journal import Journal
from fewshot_sdk.meta.preparation import (
    CHECKPOINT_EVERY,
    COMMAND,
    Run,
    checkpoint_of,
    prepare,
    pretraining_of,
    steps_left,
)
from fewshot_sdk.meta.trackers import TrackerName
from fewshot_sdk.storage import plots
from fewshot_sdk.storage.bundles import read_archive
from fewshot_sdk.storage.files import check_free, write_folder
from fewshot_sdk.storage.locks import alone_at
from fewshot_sdk.storage.siblings import best_of, check_output


@overload
def train_to_folder(
    recipe: Recipe, output: str | Path, *, root: str | Path | None = None, seed: int = 0,
    init: Initialization | None = None, checkpoint_every: int = CHECKPOINT_EVERY, evaluate_every: int | None = None,
    keep_best: bool = False, tracker: TrackerName | None = None, resume: bool = False, workers: int = 1,
    device: torch.device | None = None, command: str = COMMAND, on_event: Listener = ignore,
) -> Initialization: ...  # fmt: skip
@overload
def train_to_folder(
    recipe: Regression, output: str | Path, *, seed: int = 0, checkpoint_every: int = CHECKPOINT_EVERY,
    tracker: TrackerName | None = None, resume: bool = False, workers: int = 1, command: str = COMMAND,
    on_event: Listener = ignore,
) -> NumberInitialization: ...  # fmt: skip
def train_to_folder(
    recipe: Recipe | Regression,
    output: str | Path,
    *,
    root: str | Path | None = None,
    seed: int = 0,
    init: Initialization | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
    evaluate_every: int | None = None,
    keep_best: bool = False,
    tracker: TrackerName | None = None,
    resume: bool = False,
    workers: int = 1,
    device: torch.device | None = None,
    command: str = COMMAND,
    on_event: Listener = ignore,
) -> AnyInitialization:
    """Pre-train and meta-train by a recipe, for pictures or numbers, and save the initialization as a folder.

    root: folder of the data set, as for `open_dataset`. init: an initialization of the same backbone, such as a timm
    model, to go on from; None: random weights.
    Unfinished work is kept beside the folder, in OUTPUT.pretraining after each epoch and in OUTPUT.checkpoint after
    every `checkpoint_every` outer steps and when an exception, such as KeyboardInterrupt, ends the run. `resume`
    continues from there, to the same bits as without the interruption.
    evaluate_every: outer steps between two points of the learning curve, the accuracy on held-out classes, which goes
    to `Initialization.metrics` and, with matplotlib, to curve.png; None: a twentieth of all, at least 500; 0: no curve.
    The lines of metrics.jsonl, of which the curve is a part, are in OUTPUT.metrics.jsonl as long as the work is
    unfinished. tracker: shows them elsewhere, too, see `fewshot_sdk.meta.trackers`.
    keep_best: keep the initialization with the best accuracy of the curve, the first of several, in OUTPUT-best.
    workers: processes that share the tasks of an outer step; they are started by `multiprocessing`, so a script needs
    `if __name__ == "__main__"`, and `on_event` must be a function of a module. device: a GPU, with one worker only.
    on_event: called with each of `fewshot_sdk.meta.events`; an exception that it raises ends the run.
    Raises MissingExtra if the tracker is not installed; OutputExists if the folder exists, if there is unfinished work
    and `resume` is not set, or if another process is writing to the same output; ConfigError if the work to resume is
    of another training run; SaveError, naming where the result was rescued to, if the disk refuses; and whatever
    `meta_train` raises.
    """
    run = Run(
        recipe=recipe,
        output=Path(output),
        root=None if root is None else Path(root),
        seed=seed,
        checkpoint_every=checkpoint_every,
        evaluate_every=evaluate_every,
        device=device,
        command=command,
        keep_best=keep_best,
        tracker=tracker,
    )
    with reserved(run.output, resume=resume, keep_best=keep_best):
        prepare(run, init, on_event)
        if workers == 1:
            return train(run, on_event=on_event)
        run_workers(workers, _in_worker, run, on_event)
    return load_any(run.output.absolute())  # a relative path could be taken for a bundled name


@contextmanager
def reserved(output: Path, *, resume: bool, keep_best: bool = False) -> Iterator[None]:
    """Reserve `output` for this process, and check that unfinished work is there if and only if `resume` is set.

    Raises ConfigError for an output that `check_output` refuses, OutputExists if it is taken, BundleError if there is
    nothing to resume or it is damaged.
    """
    check_output(output)
    with alone_at(output, checkpoint_of(output)):
        if resume and (output / "config.json").exists() and not checkpoint_of(output).exists():
            raise OutputExists(
                f"{output} is finished, so there is nothing to resume; to go on from it, name it by --init and another "
                "--output"
            )
        check_free(output)
        for path in (checkpoint_of(output), pretraining_of(output)):
            if path.exists() and not resume:
                raise OutputExists(f"{path} holds an unfinished training run; continue it with --resume, or remove it")
        if keep_best and not resume:
            check_free(best_of(output))
        if resume and not pretraining_of(output).exists():
            read_archive(checkpoint_of(output))
        yield


def train(
    run: Run,
    *,
    workers: Workers | None = None,
    keeps: bool | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_event: Listener = ignore,
) -> AnyInitialization:
    """Take the outer steps after `prepare`, from the checkpoint if there is one, and save the result.

    Returns the initialization after the last step taken. stop: called after each step, and while its accuracy is
    measured; True in any worker ends the run there, or at the step before, and keeps it in the checkpoint. Only the
    first worker writes the folder and calls `on_event`.
    keeps: whether this process writes the checkpoint; None: if it is the first.
    """
    workers = workers or Workers()
    first, total = workers.rank == 0, run.recipe.meta.meta_steps
    keeps = first if keeps is None else keeps
    notify = on_event if first else ignore
    last: AnyInitialization | None = None
    # before the first outer step counts there is nothing to keep, so its accuracy is measured to the end
    start, steps = steps_left(run, workers, lambda: last is not None and stop())
    last = start
    notify(Began(work="meta-training", done=_done(start), total=total, by=_by(run)))
    with Journal(run, start, notify) if first else nullcontext() as journal:
        try:
            with suppress(Interrupted):  # then the last step is the one before
                for step in steps:
                    last = step.initialization
                    notify(step)
                    if journal:
                        journal.add(step)
                    if step.done == total or workers.any(stop()):
                        break
                    if keeps and step.done % run.checkpoint_every == 0:
                        try:
                            save_checkpoint(last, run.checkpoint)
                        except SaveError as error:
                            notify(Unsaved(path=run.checkpoint, reason=error))
            assert last is not None  # a recipe without outer steps has pre-training
            if _done(last) == total:  # once the folder is there, no checkpoint is needed on any machine
                picture = agreed(workers, partial(_save_or_rescue, run, last, notify) if first else _nothing)
                if journal:
                    journal.finish(picture)
            elif keeps:
                _keep(run, last, notify)
        except BaseException:
            if keeps and last is not None and last is not start:
                with suppress(SaveError):
                    _keep(run, last, notify)
            raise
        if keeps and _done(last) == total:
            for path in (run.checkpoint, run.pretraining):
                path.unlink(missing_ok=True)
    return last


def _nothing() -> None:
    pass


def _in_worker(workers: Workers, run: Run, on_event: Listener) -> None:
    train(run, workers=workers, on_event=on_event)


def _done(init: AnyInitialization | None) -> int:
    return init.provenance.meta_steps_done if init else 0


def _by(run: Run) -> str:
    """What runs the inner loop; empty for regression, which is short."""
    if run.device or not isinstance(run.recipe, Recipe):
        return f"torch, {run.device}" if run.device else ""
    return instructions() if runs_in_c(run.recipe.backbone) else "torch"


def _keep(run: Run, init: AnyInitialization, notify: Listener) -> None:
    save_checkpoint(init, run.checkpoint)
    notify(Kept(checkpoint=run.checkpoint, done=_done(init), meta_steps=run.recipe.meta.meta_steps))


def _save_or_rescue(run: Run, init: AnyInitialization, notify: Listener) -> bytes | None:
    """Save the folder; if the disk refuses, save it to the temporary folder, so that no training is lost, and raise.

    Returns the picture of the learning curve, if there is one.
    """
    files = files_of_run(init)
    if init.metrics:
        try:
            files["curve.png"] = plots.curve({init.recipe.preset: init.metrics})
        except MissingExtra as error:
            notify(Unsaved(path=run.output / "curve.png", reason=error))
    try:
        write_folder(run.output, files)
    except (OutputExists, SaveError) as error:
        raise SaveError(f"{error}; {_rescued(run, files)}") from None
    return files.get("curve.png")


def _rescued(run: Run, files: dict[str, bytes]) -> str:
    """Where the result is after all, in words: in a new temporary folder, or nowhere, and what to do then."""
    made: Path | None = None
    try:
        made = Path(tempfile.mkdtemp(prefix="fewshot-"))
        return f"the result is kept in {write_folder(made / run.output.name, files)}"
    except (OSError, SaveError):
        if made is not None:
            made.rmdir()
        kept = f"; --resume continues from {run.checkpoint}" if run.checkpoint.exists() else ""
        return f"the temporary folder cannot take it either{kept}"
