"""A training as it is shown: a bar on a terminal, lines elsewhere, or a stream of JSON."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fewshot_cli.output import Count, counted, emit_line, say

if TYPE_CHECKING:
    from fewshot_sdk.config.recipe import Recipe
    from fewshot_sdk.config.records import Metric
    from fewshot_sdk.config.regression import Regression
    from fewshot_sdk.meta.events import Event, Listener
    from fewshot_sdk.meta.regression import NumberStep
    from fewshot_sdk.meta.training import MetaStep

RECENT = 30.0  # seconds of training over which the speed is measured
APART = 1.0  # seconds between two `step` events of the JSON stream


class Speed:
    """The tasks per second in the last 30 seconds of training, without the time in which accuracy is measured."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()  # seconds of training, outer steps

    def after(self, step: MetaStep | NumberStep) -> float | None:
        """The speed after this step; None in the first second."""
        seconds = step.initialization.provenance.seconds
        if not self._seen or seconds - self._seen[-1][0] >= RECENT / 60:
            self._seen.append((seconds, step.done))
        while len(self._seen) > 2 and seconds - self._seen[1][0] >= RECENT:
            self._seen.popleft()
        past, done = self._seen[0]
        if seconds - past < 1:
            return None
        return (step.done - done) * step.initialization.recipe.meta.tasks_per_step / (seconds - past)


@contextmanager
def watched(title: str, *, json: bool, plain_seconds: float | None = None) -> Iterator[Listener]:
    """A listener that shows the events of this part of a training. json: on stdout, as lines of JSON."""
    if json:
        yield Stream()
        return
    with counted(title, plain_seconds, below=True) as count:
        yield Display(count)


class Display:
    """Messages, and a count of epochs or steps with loss, speed and the last accuracy."""

    def __init__(self, count: Count) -> None:
        self._count, self._speed = count, Speed()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        from fewshot_sdk.meta.events import Began, Best, Kept, Reading, Tracked, Unsaved
        from fewshot_sdk.meta.pretraining import Epoch
        from fewshot_sdk.meta.training import MetaStep

        match event:
            case Reading():
                say(f"reading {event.data}")
            case Began():
                if event.work == "pre-training":
                    say(f"pre-training for {event.total - event.done} epochs; the time left is known after the first")
                if event.by:
                    say(f"the inner loop runs in {event.by}")
                self._count(event.done, event.total, "")
            case Epoch():
                self._count(event.done, event.epochs, f"loss {event.loss:.3f}")
            case MetaStep():
                due = event.line is not None and hasattr(event.line, "accuracy")
                self._count(event.done, event.meta_steps, ", ".join(self._notes(event)), due=due)
            case Unsaved():
                say(f"warning: no {event.path.name}: {event.reason}; training continues")
            case Tracked():
                say(f"{event.tracker}: {event.where}")
            case Best():
                pass  # the metrics tell it, and the command at the end
            case Kept():
                say(
                    f"stopped after {event.done} of {event.meta_steps} outer steps, saved in {event.checkpoint}; "
                    "--resume continues"
                )

    def _notes(self, step: MetaStep | NumberStep) -> Iterator[str]:
        yield f"loss {step.loss:.3f}"
        if (speed := self._speed.after(step)) is not None:
            yield f"{speed:.3g} tasks/s"
        if points := step.initialization.metrics:
            yield f"{held_out_part(step.initialization.recipe)} accuracy {at_step(points[-1])}"


class Stream:
    """Each event as a line of JSON on stdout; training goes on if nobody reads it.

    Of the outer steps: at most one a second, and those of the curve and the last.
    """

    def __init__(self) -> None:
        self._speed, self._sent = Speed(), -math.inf
        self._began: tuple[float, int] | None = None

    def __call__(self, event: Event) -> None:
        """Print an event, unless it is one of many steps."""
        from fewshot_sdk.meta.events import Began, Best, Kept, Reading, Tracked, Unsaved
        from fewshot_sdk.meta.pretraining import Epoch
        from fewshot_sdk.meta.training import MetaStep

        match event:
            case Reading():
                send("reading", data=event.data)
            case Began():
                self._began = time.monotonic(), event.done
                send("began", work=event.work, done=event.done, total=event.total, by=event.by)
            case Epoch():
                send("epoch", done=event.done, total=event.epochs, loss=event.loss, seconds=event.seconds)
            case MetaStep():
                self._step(event)
            case Unsaved():
                say(f"warning: no {event.path.name}: {event.reason}; training continues")
                send("unsaved", path=str(event.path), reason=str(event.reason))
            case Tracked():
                send("tracked", tracker=event.tracker, where=event.where)
            case Best():
                found = event.metric
                send("best", step=found.meta_steps, accuracy=found.accuracy, ci95=found.ci95, path=str(event.path))
            case Kept():
                send("kept", step=event.done, total=event.meta_steps, checkpoint=str(event.checkpoint))

    def _step(self, step: MetaStep | NumberStep) -> None:
        speed, now = self._speed.after(step), time.monotonic()
        began, first = self._began or (now, step.done)
        numbers: dict[str, object] = {
            "step": step.done,
            "total": step.meta_steps,
            "loss": step.loss,
            "tasks_per_second": speed,
            "seconds": step.initialization.provenance.seconds,
            "seconds_left": round((now - began) / max(step.done - first, 1) * (step.meta_steps - step.done), 1),
        }
        points = step.initialization.metrics
        if points and points[-1].meta_steps == step.done:
            found = points[-1]
            of = {"accuracy": found.accuracy, "ci95": found.ci95, "tasks": found.tasks, "ways": found.ways}
            send("point", **numbers, part=held_out_part(step.initialization.recipe), **of)
        elif now - self._sent >= APART or step.done == step.meta_steps:
            send("step", **numbers)
        else:
            return
        self._sent = now


def send(event: str, **fields: object) -> None:
    """Print an event as a line of JSON, numbers that are not finite as null. If nobody reads it, say so once."""
    from sys import stdout

    finite = {name: None if isinstance(it, float) and not math.isfinite(it) else it for name, it in fields.items()}
    if not emit_line({"event": event, **finite}) and stdout is not None:
        say("warning: standard output takes no more of the JSON stream; training continues without it")


def held_out_part(recipe: Recipe | Regression) -> str:
    """The part of the data set that the curve is measured on: val or test; empty for numbers."""
    from fewshot_sdk.config.recipe import Recipe
    from fewshot_sdk.data.opening import held_out

    return (held_out(recipe.data) or "") if isinstance(recipe, Recipe) else ""


def at_step(point: Metric) -> str:
    """A point of the curve in words."""
    return f"{100 * point.accuracy:.1f} ± {100 * point.ci95:.1f} % ({point.ways}-way) at step {point.meta_steps}"
