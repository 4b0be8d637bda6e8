"""Trackers: what they are told, and that none of them stops a training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fewshot_sdk.errors import MissingExtra
from fewshot_sdk.meta import trackers
from fewshot_sdk.meta.events import Event, Tracked, Unsaved
from fewshot_sdk.meta.run import train_to_folder
from fewshot_sdk.meta.trackers import TensorBoard, tracker
from fewshot_sdk.meta.training import MetaStep
from tests.conftest import REPOSITORY
from tests.meta.test_run import NUMBERS, PICTURES, _few  # noqa: F401

WANDB = """
import sys
from pathlib import Path
from fewshot_sdk.config.records import Metric, Progress
from fewshot_sdk.meta.trackers import tracker
from fewshot_sdk.storage.plots import curve

output, first = Path(sys.argv[1]), Progress(meta_steps=1, seconds=1.0, loss=1.5, tasks_per_second=7.0)
point = Metric(meta_steps=2, seconds=2.0, loss=1.25, accuracy=0.5, ci95=0.1, tasks=3, ways=5)
for done, finished, line in ((0, False, first), (1, True, point)):
    it = tracker("wandb")
    where = it.begin(output, done, {"recipe": {"preset": "glyphs"}})
    assert where.startswith("wandb sync ") and Path(where.removeprefix("wandb sync ")).is_dir(), where
    it.add(line, 0.5)
    it.end(line.meta_steps, finished=finished, curve=curve({"glyphs": [point]}) if finished else None)
    assert output.with_name("init.wandb").exists() != finished
"""


def read_back(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_a_tensorboard_file_has_recipe_metrics_and_curve(tmp_path: Path) -> None:
    told: list[Event] = []
    init = train_to_folder(
        PICTURES, tmp_path / "init", evaluate_every=2, tracker="tensorboard", command="a command", on_event=told.append
    )
    folder = tmp_path / "init.tensorboard"
    assert Tracked(tracker="tensorboard", where=f"tensorboard --logdir {folder}") in told
    found = read_back(folder)
    losses = [(event.step, event.value) for event in found.Scalars("train/loss")]
    assert losses == [(e.done, pytest.approx(e.loss)) for e in told if isinstance(e, MetaStep)]
    accuracies = [(event.step, event.value) for event in found.Scalars("held_out/accuracy")]
    assert accuracies == [(point.meta_steps, pytest.approx(point.accuracy)) for point in init.metrics]
    assert [event.step for event in found.Scalars("held_out/ci95")] == [2, 4, 5]
    assert [event.value for event in found.Scalars("train/step_size")] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert all(event.value > 0 for event in found.Scalars("train/tasks_per_second"))
    (recipe,) = found.Tensors("recipe/text_summary")
    assert json.loads(recipe.tensor_proto.string_val[0]) == PICTURES.model_dump(mode="json")
    (command,) = found.Tensors("command/text_summary")
    assert b"a command" in command.tensor_proto.string_val[0]
    (curve,) = found.Images("curve")
    assert curve.encoded_image_string == (tmp_path / "init" / "curve.png").read_bytes()


def test_a_resumed_training_goes_on_in_the_same_folder_with_each_step_once(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, MetaStep) and event.done == 4:
            raise KeyboardInterrupt

    output = tmp_path / "init"
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(NUMBERS, output, checkpoint_every=2, tracker="tensorboard", on_event=stop)
    board = TensorBoard()  # and a later process, which is killed before it saves what it did
    board.begin(output, 4, {})
    board.end(4, finished=False, curve=None)
    train_to_folder(NUMBERS, output, tracker="tensorboard", resume=True)
    found = read_back(tmp_path / "init.tensorboard")
    assert [event.step for event in found.Scalars("train/loss")] == [1, 2, 3, 5]
    assert len(list((tmp_path / "init.tensorboard").iterdir())) == 3


def test_steps_that_were_lost_are_not_shown_twice(tmp_path: Path) -> None:
    from fewshot_sdk.config.records import Progress

    for done, steps in ((0, (1, 2, 3)), (1, (2, 3, 4))):
        board = TensorBoard()
        board.begin(tmp_path / "init", done, {})
        for step in steps:
            board.add(Progress(meta_steps=step, seconds=1.0, loss=10.0 * done + step), 1.0)
        board.end(steps[-1], finished=False, curve=None)
    found = read_back(tmp_path / "init.tensorboard").Scalars("train/loss")
    assert [(event.step, event.value) for event in found] == [(1, 1), (2, 12), (3, 13), (4, 14)]


def test_a_wandb_run_is_written_without_a_login_a_network_or_a_question(tmp_path: Path) -> None:
    unset = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "NETRC")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(tmp_path), "WANDB_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", WANDB, str(tmp_path / "init")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    first, second = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert first.name == second.name  # one run, sent as one
    assert len(list((tmp_path / "wandb").glob("offline-run-*/files/media/images/curve_2_*.png"))) == 1


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else name)
    with pytest.raises(MissingExtra, match=r"wandb is not installed; pip install 'fewshot-sdk\[wandb\]'"):
        train_to_folder(NUMBERS, tmp_path / "init", tracker="wandb")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["begin", "add", "end"])
def test_a_tracker_that_fails_is_told_once_and_ends_nothing(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left\non device")

    monkeypatch.setattr(TensorBoard, method, fail)
    told: list[Event] = []
    init = train_to_folder(NUMBERS, tmp_path / "init", tracker="tensorboard", on_event=told.append)
    assert init.provenance.meta_steps_done == 5
    (unsaved,) = [event for event in told if isinstance(event, Unsaved)]
    assert (unsaved.path, str(unsaved.reason)) == (Path("tensorboard"), "[Errno 28] No space left on device")


def test_a_tracker_that_prints_does_not_print_among_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trackio's interface, in place of trackio itself."""
    logged: list[object] = []

    class Trackio:
        Image = list

        def init(self, **settings: object) -> Trackio:
            print("* Trackio project initialized")  # noqa: T201
            logged.append(settings)
            return self

        def log(self, _numbers: object, step: int) -> None:
            logged.append(step)

        def finish(self) -> None:
            print("* Run finished")  # noqa: T201

    monkeypatch.setitem(sys.modules, "trackio", Trackio())
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    train_to_folder(NUMBERS, tmp_path / "init", tracker="trackio")
    assert capsys.readouterr().out == ""
    settings, *steps = logged
    assert isinstance(settings, dict)
    assert (settings["name"], settings["resume"], steps) == ("init", "never", [1, 2, 3, 4, 5])
    assert isinstance(tracker("trackio"), trackers.Trackio)
