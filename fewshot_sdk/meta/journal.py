"""What a training writes down as it goes: OUTPUT.metrics.jsonl, a tracker's run, and the best initialization."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from fewshot_sdk.artifacts.initialization import AnyInitialization, save_checkpoint
from fewshot_sdk.errors import SaveError
from fewshot_sdk.meta.events import Best, Listener, Tracked, Unsaved
from fewshot_sdk.meta.outer_loop import step_size_at
from fewshot_sdk.meta.preparation import Run
from fewshot_sdk.meta.regression import NumberStep
from fewshot_sdk.meta.trackers import Tracker, tracker
from fewshot_sdk.meta.training import MetaStep
from fewshot_sdk.storage import metrics
from fewshot_sdk.storage.files import write_folder
from fewshot_sdk.storage.replacement import replace_folder
from fewshot_sdk.storage.siblings import metrics_of
from fewshot_sdk.version import __version__


class Journal:
    """What the first worker of a run writes down between its first and its last outer step.

    What fails is told once, as `Unsaved`; training goes on without it.
    """

    def __init__(self, run: Run, start: AnyInitialization | None, notify: Listener) -> None:
        self._run, self._start, self._notify = run, start, notify
        self._lines: Path | None = metrics_of(run.output)
        self._tracker: Tracker | None = None
        self._done = start.provenance.meta_steps_done if start else 0
        self._finished = False
        self._curve: bytes | None = None

    def __enter__(self) -> Self:
        start, run = self._start, self._run
        self._write(lambda path: metrics.begin(path, (*start.metrics, *start.progress) if start else ()))
        if run.keep_best and start is not None:
            self._keep_if_best(start)  # it may have ended between writing its checkpoint and its best
        if run.tracker:
            self._tracker = tracker(run.tracker)
            where: list[str] = []
            self._track(lambda it: where.append(self._begin(it)))
            for text in where:
                self._notify(Tracked(tracker=run.tracker, where=text))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._track(lambda it: it.end(self._done, finished=self._finished, curve=self._curve))
        if isinstance(error, SaveError) and not self._run.checkpoint.exists():  # there is nothing to continue
            metrics_of(self._run.output).unlink(missing_ok=True)

    def add(self, step: MetaStep | NumberStep) -> None:
        """Write down a step's line, if it has one, and keep its initialization if that is the best so far."""
        self._done, line = step.done, step.line
        if line is None:
            return
        self._write(lambda path: metrics.append(path, line))
        self._track(lambda it: it.add(line, step_size_at(step.done - 1, self._run.recipe.meta)))
        if self._run.keep_best:
            self._keep_if_best(step.initialization)

    def finish(self, curve: bytes | None) -> None:
        """Note that the result is saved, with its metrics. curve: the picture of the learning curve, for a tracker."""
        self._finished, self._curve = True, curve
        metrics_of(self._run.output).unlink(missing_ok=True)

    def _keep_if_best(self, init: AnyInitialization) -> None:
        """Keep an initialization in OUTPUT-best if the curve has a point there, higher than all before.

        The checkpoint is written first: wherever the run ends, the best of the checkpoint's curve is in the folder, or
        is the checkpoint itself, and a run that goes on from there keeps it.
        """
        best, path = metrics.highest(init.metrics), self._run.best
        if best is None or best.meta_steps != init.provenance.meta_steps_done:
            return
        try:
            save_checkpoint(init, self._run.checkpoint)
            (replace_folder if path.exists() else write_folder)(path, init.files())
        except SaveError as error:
            self._notify(Unsaved(path=path, reason=error))
        else:
            self._notify(Best(path=path, metric=best))

    def _begin(self, begun: Tracker) -> str:
        run = self._run
        config: dict[str, object] = {
            "recipe": run.recipe.model_dump(mode="json"),
            "command": run.command,
            "seed": run.seed,
            "fewshot-sdk": __version__,
        }
        return begun.begin(run.output, self._done, config)

    def _write(self, action: Callable[[Path], None]) -> None:
        if self._lines is None:
            return
        try:
            action(self._lines)
        except SaveError as error:
            self._notify(Unsaved(path=self._lines, reason=error))
            self._lines = None

    def _track(self, action: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            action(self._tracker)
        except Exception as error:  # whatever a tracker raises, of its own or of a network or a disk
            self._tracker = None
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            self._notify(Unsaved(path=Path(str(self._run.tracker)), reason=SaveError(reason)))
