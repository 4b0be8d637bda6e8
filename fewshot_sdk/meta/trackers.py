"""Trackers: TensorBoard, trackio and Weights & Biases show a training's recipe, metrics and curve elsewhere."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from fewshot_sdk.errors import MissingExtra

if TYPE_CHECKING:
    from PIL.Image import Image

    from fewshot_sdk.config.records import Progress

TrackerName = Literal["tensorboard", "trackio", "wandb"]
PROJECT = "fewshot-sdk"
WAIT = 300.0  # seconds that an upload may take at the end; what is left, `wandb sync` sends


class Tracker(ABC):
    """Where a run's progress goes, besides metrics.jsonl. Whatever a method raises, training goes on without it."""

    @abstractmethod
    def begin(self, output: Path, done: int, config: dict[str, object]) -> str:
        """Start, or go on after `done` outer steps; returns where to look. config: the recipe and the command."""

    @abstractmethod
    def add(self, line: Progress, step_size: float) -> None:
        """Add a line of metrics.jsonl, and the outer step size of that step."""

    @abstractmethod
    def end(self, done: int, *, finished: bool, curve: bytes | None) -> None:
        """Finish after `done` outer steps. curve: the picture of the learning curve, a PNG, if there is one."""


def picture(png: bytes) -> Image:
    """The picture in a PNG."""
    import PIL.Image

    return PIL.Image.open(io.BytesIO(png))


def check_installed(name: TrackerName) -> None:
    """Raises MissingExtra, with the command that installs it, if the tracker's package is not there."""
    if find_spec(name) is None:
        raise MissingExtra(f"the tracker {name} is not installed; pip install 'fewshot-sdk[{name}]', or leave it out")


def tracker(name: TrackerName) -> Tracker:
    """The tracker of this name."""
    kinds: dict[TrackerName, Callable[[], Tracker]] = {"tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb}
    return kinds[name]()


def scalars(line: Progress, step_size: float) -> dict[str, float]:
    """The numbers of a line, by the names that all trackers give them."""
    named = {
        "train/loss": line.loss,
        "train/tasks_per_second": line.tasks_per_second,
        "train/step_size": step_size,
        "train/seconds": line.seconds,
        "held_out/accuracy": getattr(line, "accuracy", None),
        "held_out/ci95": getattr(line, "ci95", None),
    }
    return {name: value for name, value in named.items() if value is not None}


class TensorBoard(Tracker):
    """An event file in OUTPUT.tensorboard, written by TensorBoard's own code, without TensorFlow.

    A run that goes on has a new file, which says from which step on those before it do not count.
    """

    def begin(self, output: Path, done: int, config: dict[str, object]) -> str:
        """Write a new event file; its first records are the configuration, as text."""
        from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2

        folder = output.with_name(f"{output.name}.tensorboard")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"  # they are read in the order of their names
        self._path = folder / name
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write({"file_version": "brain.Event:2"}, {"step": done + 1, "session_log": start})
        metadata = summary_pb2.SummaryMetadata(plugin_data={"plugin_name": "text"})
        for title, value in config.items():
            text = "    " + json.dumps(value, indent=2).replace("\n", "\n    ")  # Markdown's code
            tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[text.encode()])
            self._summary(done, {"tag": f"{title}/text_summary", "metadata": metadata, "tensor": tensor})
        return f"tensorboard --logdir {folder}"

    def add(self, line: Progress, step_size: float) -> None:
        """Write the numbers."""
        found = scalars(line, step_size).items()
        self._summary(line.meta_steps, *({"tag": tag, "simple_value": value} for tag, value in found))

    def end(self, done: int, *, finished: bool, curve: bytes | None) -> None:  # noqa: ARG002
        """Write the curve."""
        from tensorboard.compat.proto import summary_pb2

        if curve is not None:
            width, height = picture(curve).size
            image = summary_pb2.Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=curve)
            self._summary(done, {"tag": "curve", "image": image})

    def _summary(self, step: int, *values: dict[str, object]) -> None:
        from tensorboard.compat.proto import summary_pb2

        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(**value) for value in values])
        self._write({"step": step, "summary": summary})

    def _write(self, *events: dict[str, object]) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._path.open("ab") as file:
            for event in events:
                RecordWriter(file).write(event_pb2.Event(wall_time=time.time(), **event).SerializeToString())


class Wandb(Tracker):
    """A run of Weights & Biases: online if there is a login, else a folder in ./wandb that `wandb sync` sends later.

    Nothing is asked. OUTPUT.wandb holds the run's id until the end, so that a resumed training goes on in the same run.
    """

    def begin(self, output: Path, done: int, config: dict[str, object]) -> str:
        """Start a run, or go on with the one whose id is beside the output."""
        import wandb

        self._id = output.with_name(f"{output.name}.wandb")
        if not (done and self._id.is_file()):
            self._id.parent.mkdir(parents=True, exist_ok=True)
            self._id.write_text(uuid4().hex[:16])
        offline = not os.environ.get("WANDB_MODE") and not wandb.login(prompt=False, verify=False)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=output.name,
            id=self._id.read_text(),
            resume="allow",
            mode="offline" if offline else None,
            config=config,
            settings=wandb.Settings(silent=True, console="off", finish_timeout=WAIT, disable_git=True),
        )
        return f"wandb sync {Path(self._run.dir).parent}" if self._run.offline else str(self._run.url)

    def add(self, line: Progress, step_size: float) -> None:
        """Log the numbers."""
        self._run.log(scalars(line, step_size), step=line.meta_steps)

    def end(self, done: int, *, finished: bool, curve: bytes | None) -> None:
        """Log the curve and finish."""
        import wandb

        if curve is not None:
            self._run.log({"curve": wandb.Image(picture(curve))}, step=done)
        self._run.finish()
        if finished:
            self._id.unlink(missing_ok=True)


class Trackio(Tracker):
    """A run of trackio, in its folder on this machine ($TRACKIO_DIR), or in the Space of $TRACKIO_SPACE_ID."""

    def begin(self, output: Path, done: int, config: dict[str, object]) -> str:
        """Start a run with the output's name, or go on with it."""
        import trackio

        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        resume = "allow" if done else "never"
        with _unheard():
            self._run = trackio.init(project=project, name=output.name, resume=resume, config=config, embed=False)
        return f"trackio show --project {project}"

    def add(self, line: Progress, step_size: float) -> None:
        """Log the numbers."""
        with _unheard():
            self._run.log(scalars(line, step_size), step=line.meta_steps)

    def end(self, done: int, *, finished: bool, curve: bytes | None) -> None:  # noqa: ARG002
        """Log the curve and finish."""
        import trackio

        with _unheard():
            if curve is not None:
                self._run.log({"curve": trackio.Image(picture(curve))}, step=done)
            trackio.finish()  # not the run's own: that is finished again, and prints, when Python exits


def _unheard() -> contextlib.AbstractContextManager[object]:
    """While trackio prints, which it does to standard output, among our data."""
    return contextlib.redirect_stdout(io.StringIO())
