"""From a recipe to a folder, with and without interruptions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fewshot_sdk.artifacts.initialization import AnyInitialization, Initialization, load_checkpoint
from fewshot_sdk.artifacts.opening import load_any
from fewshot_sdk.config.recipe import Conv4, Pretraining, Recipe
from fewshot_sdk.config.records import Progress
from fewshot_sdk.config.regression import NUMBER_PRESETS, Regression
from fewshot_sdk.data import glyphs
from fewshot_sdk.engine.compiler import instructions
from fewshot_sdk.errors import BundleError, ConfigError, OutputExists, SaveError
from fewshot_sdk.meta import curve, run
from fewshot_sdk.meta.events import Began, Event, Kept, Reading, Unsaved
from fewshot_sdk.meta.preparation import Run
from fewshot_sdk.meta.pretraining import Epoch
from fewshot_sdk.meta.run import train, train_to_folder
from fewshot_sdk.meta.training import MetaStep
from fewshot_sdk.storage.files import write_folder
from fewshot_sdk.storage.locks import alone_at
from tests.conftest import tiny_recipe

SMALL = tiny_recipe()
PICTURES = SMALL.replace(
    meta=SMALL.meta.replace(meta_steps=5, tasks_per_step=1), inner=SMALL.inner.replace(steps=2, batch_size=5)
)
PRETRAINED = PICTURES.replace(pretraining=Pretraining(epochs=3, batch_size=32, pictures="drawings"))
ALONE = PRETRAINED.replace(meta=PRETRAINED.meta.replace(meta_steps=0))
NUMBERS = NUMBER_PRESETS["sine"].replace(meta=NUMBER_PRESETS["sine"].meta.replace(meta_steps=5, optimizer="adam"))
RECIPES = {"pictures": PICTURES, "pre-training": PRETRAINED, "pre-training alone": ALONE, "numbers": NUMBERS}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "GLYPH_CLASSES", 12)
    monkeypatch.setattr(curve, "TASKS", 3)


def trained(
    recipe: Recipe | Regression, output: Path, *, resume: bool = False, on_event: Callable[[Event], object] = str
) -> AnyInitialization:
    """By either overload of `train_to_folder`, with a checkpoint, and for pictures a curve point, every two steps."""
    if isinstance(recipe, Regression):
        return train_to_folder(recipe, output, checkpoint_every=2, resume=resume, on_event=on_event)
    return train_to_folder(recipe, output, checkpoint_every=2, evaluate_every=2, resume=resume, on_event=on_event)


def events_of(recipe: Recipe | Regression, output: Path) -> list[Event]:
    events: list[Event] = []
    trained(recipe, output, on_event=events.append)
    return events


def after(n: int, error: BaseException) -> Callable[[Event], None]:
    """A listener that raises at the n-th event, from 0."""
    left = itertools.count()

    def listen(_: Event) -> None:
        if next(left) == n:
            raise error

    return listen


def bits(init: AnyInitialization) -> tuple[dict[str, bytes], list[Progress]]:
    """What must not depend on interruptions: weights and inner state, and the metrics without time and memory."""
    tensors = {name: data for name, data in init.files().items() if name.endswith(".safetensors")}
    return tensors, [untimed(line) for line in (*init.metrics, *init.progress)]


def untimed(line: Progress) -> Progress:
    return line.replace(seconds=0.0, memory_mb=None, tasks_per_second=None)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_wherever_it_is_interrupted_it_goes_on_to_the_same_bits(recipe: Recipe | Regression, tmp_path: Path) -> None:
    whole = trained(recipe, tmp_path / "whole")
    n_events = len(events_of(recipe, tmp_path / "again"))
    output = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        trained(recipe, output, on_event=after(1, KeyboardInterrupt()))
    for n in range(2, n_events + 1):  # each time as far as the interruption before, or a little further
        resume = any(path.name in ("parts.checkpoint", "parts.pretraining") for path in tmp_path.iterdir())
        try:
            last = trained(recipe, output, resume=resume, on_event=after(n, KeyboardInterrupt()))
            break
        except KeyboardInterrupt:
            assert not output.exists()
    assert bits(last) == bits(whole) == bits(load_any(output))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "parts", "whole"]


@pytest.mark.parametrize("recipe", [PICTURES, NUMBERS], ids=["pictures", "numbers"])
@pytest.mark.parametrize("error", [RuntimeError(), OSError(), KeyboardInterrupt(), SystemExit()])
def test_whatever_ends_it_the_last_step_is_kept(
    recipe: Recipe | Regression, error: BaseException, tmp_path: Path
) -> None:
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, MetaStep) and event.done == 3:
            raise error

    with pytest.raises(type(error)):
        trained(recipe, tmp_path / "init", on_event=listen)
    assert events[-1] == Kept(checkpoint=tmp_path / "init.checkpoint", done=3, meta_steps=5)
    events.clear()
    trained(recipe, tmp_path / "init", resume=True, on_event=events.append)
    assert ("meta-training", 3, 5) in begun(events)


def begun(events: list[Event]) -> list[tuple[str, int, int]]:
    return [(event.work, event.done, event.total) for event in events if isinstance(event, Began)]


def test_what_runs_the_inner_loop_is_told_at_the_start(tmp_path: Path) -> None:
    (began,) = (event for event in events_of(PICTURES, tmp_path / "conv4") if isinstance(event, Began))
    assert began.by == instructions()
    (began,) = (event for event in events_of(NUMBERS, tmp_path / "numbers") if isinstance(event, Began))
    assert began.by == ""


def test_each_epoch_and_step_is_told(tmp_path: Path) -> None:
    events = events_of(PRETRAINED, tmp_path / "init")
    assert events[0] == Reading(data="glyphs")
    assert begun(events) == [("pre-training", 0, 3), ("meta-training", 0, 5)]
    assert [event.done for event in events if isinstance(event, Epoch)] == [1, 2, 3]
    assert [event.done for event in events if isinstance(event, MetaStep)] == [1, 2, 3, 4, 5]


def test_an_epoch_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(PRETRAINED, tmp_path / "init", on_event=after(3, KeyboardInterrupt()))
    events: list[Event] = []
    trained(PRETRAINED, tmp_path / "init", resume=True, on_event=events.append)
    assert events[1] == Began(work="pre-training", done=2, total=3)
    assert [event.done for event in events if isinstance(event, Epoch)] == [3]


def test_the_curve_is_measured_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    found = trained(PICTURES, tmp_path / "init").metrics
    assert [metric.meta_steps for metric in found] == [2, 4, 5]
    assert all(0 <= metric.accuracy <= 1 and metric.tasks == 3 for metric in found)
    assert (tmp_path / "init" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert train_to_folder(PICTURES, tmp_path / "plain", evaluate_every=0).metrics == ()
    assert not (tmp_path / "plain" / "curve.png").exists()


def test_a_second_one_at_the_same_output_is_refused(tmp_path: Path) -> None:
    output, checkpoint = tmp_path / "init", tmp_path / "init.checkpoint"
    with alone_at(output, checkpoint), pytest.raises(OutputExists, match="another process is making"):
        trained(NUMBERS, output)
    with pytest.raises(KeyboardInterrupt):
        trained(NUMBERS, output, on_event=after(3, KeyboardInterrupt()))
    with pytest.raises(OutputExists, match="holds an unfinished training run; continue it"):
        trained(NUMBERS, output)
    with pytest.raises(ConfigError, match=r"seed was 0, now 1"):
        train_to_folder(NUMBERS, output, seed=1, resume=True)
    trained(NUMBERS, output, resume=True)
    with pytest.raises(OutputExists, match="already holds something"):
        trained(NUMBERS, output)


def test_what_is_not_there_or_damaged_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"init\.checkpoint: no such file.*expected a checkpoint"):
        trained(PICTURES, tmp_path / "init", resume=True)
    (tmp_path / "init.checkpoint").write_bytes(b"none")
    with pytest.raises(BundleError, match="is not a checkpoint, or is damaged"):
        trained(PICTURES, tmp_path / "init", resume=True)


def test_a_result_that_the_disk_refuses_is_rescued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, contents: dict[str, bytes]) -> Path:
        if folder == tmp_path / "init":
            raise SaveError(f"could not write {folder}: no space left on device")
        return write_folder(folder, contents)

    monkeypatch.setattr(run, "write_folder", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SaveError, match="no space left on device; the result is kept in ") as said:
        trained(NUMBERS, tmp_path / "init")
    kept = load_any(str(said.value).rpartition(" ")[2])
    monkeypatch.undo()
    assert bits(trained(NUMBERS, tmp_path / "init", resume=True)) == bits(kept)


def test_a_checkpoint_that_the_disk_refuses_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: AnyInitialization, path: Path) -> Path:
        raise SaveError(f"could not write {path}: no space left on device")

    monkeypatch.setattr(run, "save_checkpoint", refuse)
    events = events_of(NUMBERS, tmp_path / "init")
    assert [event.path.name for event in events if isinstance(event, Unsaved)] == ["init.checkpoint"] * 2
    assert load_any(tmp_path / "init").provenance.meta_steps_done == 5


def test_it_stops_after_the_step_at_which_it_is_told_to(tmp_path: Path) -> None:
    events: list[Event] = []
    settings = Run(recipe=NUMBERS, output=tmp_path / "init")
    last = train(settings, stop=lambda: len(events) == 3, on_event=events.append)
    assert last.provenance.meta_steps_done == 2
    assert isinstance(events[-1], Kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["init.checkpoint", "init.metrics.jsonl"]


def test_workers_end_in_the_same_bits(tmp_path: Path) -> None:
    recipe = NUMBERS.replace(meta=NUMBERS.meta.replace(meta_steps=2, tasks_per_step=2))
    alone = train_to_folder(recipe, tmp_path / "alone")
    assert bits(train_to_folder(recipe, tmp_path / "team", workers=2)) == bits(alone)


def test_it_begins_with_weights_that_are_given(init: Initialization, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(PICTURES, tmp_path / "x", init=init, on_event=after(1, KeyboardInterrupt()))
    begun = load_checkpoint(tmp_path / "x.checkpoint")
    assert begun.provenance.meta_steps_done == 0
    assert all(torch.equal(tensor, begun.state.params[name]) for name, tensor in init.state.params.items())
    with pytest.raises(ConfigError, match="init: glyphs pre-trains from random weights"):
        train_to_folder(PRETRAINED, tmp_path / "y", init=init)
    with pytest.raises(ConfigError, match=r"backbone: expected that .*filters=4.*, found .*filters=8"):
        train_to_folder(PICTURES.replace(backbone=Conv4(filters=8)), tmp_path / "y", init=init)


def test_a_signal_during_a_measurement_ends_it_and_the_resumed_run_has_the_same_curve(tmp_path: Path) -> None:
    whole = train_to_folder(PICTURES, tmp_path / "whole", evaluate_every=2)
    settings = Run(recipe=PICTURES, output=tmp_path / "x", evaluate_every=2)
    asked: list[int] = []

    def stop() -> bool:
        """Not after the first two steps, and then during the measurement of the fourth."""
        asked.append(1)
        return len(asked) == 1 + 3 + 1 + 1 + 2  # step 1; step 2, after each of three tasks; step 3; two tasks of step 4

    last = train(settings, stop=stop)
    assert (last.provenance.meta_steps_done, len(last.metrics)) == (3, 1)
    resumed = train_to_folder(PICTURES, tmp_path / "x", evaluate_every=2, resume=True)
    assert resumed.sha256 == whole.sha256
    assert [(point.meta_steps, point.accuracy) for point in resumed.metrics] == [
        (point.meta_steps, point.accuracy) for point in whole.metrics
    ]


def test_a_finished_run_has_nothing_to_resume(tmp_path: Path) -> None:
    train_to_folder(PICTURES, tmp_path / "x", evaluate_every=0)
    with pytest.raises(OutputExists, match="x is finished, so there is nothing to resume"):
        train_to_folder(PICTURES, tmp_path / "x", evaluate_every=0, resume=True)
