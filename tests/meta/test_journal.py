"""What a training writes down as it goes, besides checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fewshot_sdk import load
from fewshot_sdk.artifacts.initialization import Initialization, load_checkpoint
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.records import Metric, Progress
from fewshot_sdk.errors import ConfigError, OutputExists, SaveError
from fewshot_sdk.meta import curve, journal
from fewshot_sdk.meta.events import Best, Event, Unsaved
from fewshot_sdk.meta.run import train_to_folder
from fewshot_sdk.meta.training import MetaStep
from fewshot_sdk.storage import metrics
from fewshot_sdk.storage.files import read_folder
from tests.meta.test_run import ALONE, NUMBERS, PICTURES, _few, trained, untimed  # noqa: F401

pytestmark = pytest.mark.usefixtures("_few", "_no_picture")
ACCURACIES = (0.3, 0.6, 0.5, 0.6, 0.2)


def lines(path: Path) -> list[Progress]:
    points, between = metrics.from_lines(path.read_bytes())
    return sorted((untimed(line) for line in (*points, *between)), key=lambda line: line.meta_steps)


@pytest.fixture
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_sdk.storage.plots.curve", lambda _: b"drawn")


@pytest.fixture
def _known_accuracies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies with a tie for the best, instead of measured ones."""

    def point(_: object, __: Initialization, line: Progress) -> Metric:
        accuracy = ACCURACIES[line.meta_steps - 1]
        return Metric(**{**line.model_dump(), "accuracy": accuracy, "ci95": 0.1, "tasks": 3, "ways": 5})

    monkeypatch.setattr(curve.Points, "point", point)


def kept(output: Path, *, resume: bool = False, on_event: Callable[[Event], object] = str) -> Initialization:
    return train_to_folder(
        PICTURES, output, evaluate_every=1, checkpoint_every=2, keep_best=True, resume=resume, on_event=on_event
    )


def after_step(done: int, kind: type[Event] = MetaStep) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        at = event.metric.meta_steps if isinstance(event, Best) else getattr(event, "done", 0)
        if isinstance(event, kind) and at == done:
            raise KeyboardInterrupt

    return listen


@pytest.mark.parametrize("recipe", [PICTURES, NUMBERS], ids=["pictures", "numbers"])
def test_the_metrics_of_an_interrupted_training_lie_beside_it_and_go_on(recipe: Recipe, tmp_path: Path) -> None:
    trained(recipe, tmp_path / "whole")
    output, beside = tmp_path / "init", tmp_path / "init.metrics.jsonl"
    with pytest.raises(KeyboardInterrupt):
        trained(recipe, output, on_event=after_step(3))
    metrics.append(beside, Progress(meta_steps=4, seconds=0.0, loss=9.0))  # by a process killed after its checkpoint
    seen: list[list[int]] = []

    def look(event: Event) -> None:
        if isinstance(event, MetaStep):
            seen.append([line.meta_steps for line in lines(beside)])

    trained(recipe, output, resume=True, on_event=look)
    assert seen == [[1, 2, 3], [1, 2, 3, 4]]
    assert not beside.exists()
    assert lines(output / "metrics.jsonl") == lines(tmp_path / "whole" / "metrics.jsonl")
    assert [line.meta_steps for line in lines(output / "metrics.jsonl")] == [1, 2, 3, 4, 5]


def test_without_a_curve_there_are_metrics_without_accuracy(tmp_path: Path) -> None:
    train_to_folder(PICTURES, tmp_path / "init", evaluate_every=0)
    found = [json.loads(line) for line in (tmp_path / "init" / "metrics.jsonl").read_text().splitlines()]
    assert [line["meta_steps"] for line in found] == [1, 2, 3, 4, 5]
    assert all(line["tasks_per_second"] > 0 for line in found)
    assert not any("accuracy" in line for line in found)


def test_there_are_about_500_lines_however_many_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "LINES", 2)
    init = train_to_folder(NUMBERS, tmp_path / "init")
    assert [line.meta_steps for line in init.progress] == [2, 4]


def test_metrics_that_the_disk_refuses_end_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _: Progress) -> None:
        raise SaveError(f"could not write {path}: no space left on device")

    monkeypatch.setattr(metrics, "append", refuse)
    told: list[Event] = []
    train_to_folder(NUMBERS, tmp_path / "init", on_event=told.append)
    assert [event.path.name for event in told if isinstance(event, Unsaved)] == ["init.metrics.jsonl"]
    assert len(lines(tmp_path / "init" / "metrics.jsonl")) == 5


@pytest.mark.usefixtures("_known_accuracies")
def test_the_first_of_the_best_initializations_is_kept(tmp_path: Path) -> None:
    told: list[Event] = []
    kept(tmp_path / "init", on_event=told.append)
    assert [event.metric.meta_steps for event in told if isinstance(event, Best)] == [1, 2]
    best = load(tmp_path / "init-best")
    steps = {event.done: event.initialization for event in told if isinstance(event, MetaStep)}
    assert best.provenance.meta_steps_done == 2
    assert best.sha256 == steps[2].sha256


@pytest.mark.usefixtures("_known_accuracies")
@pytest.mark.parametrize(("done", "kind"), [(1, Best), (2, MetaStep), (2, Best), (4, MetaStep)])
def test_wherever_it_is_interrupted_the_same_is_kept(done: int, kind: type[Event], tmp_path: Path) -> None:
    kept(tmp_path / "whole")
    output = tmp_path / "init"
    try:
        kept(output, on_event=after_step(done, kind))
    except KeyboardInterrupt:
        kept(output, resume=True)
    assert tensors(tmp_path / "init-best") == tensors(tmp_path / "whole-best")
    assert lines(tmp_path / "init-best" / "metrics.jsonl") == lines(tmp_path / "whole-best" / "metrics.jsonl")


@pytest.mark.usefixtures("_known_accuracies")
def test_a_best_that_was_saved_in_the_checkpoint_only_is_kept_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal, "replace_folder", die)
        with pytest.raises(KeyboardInterrupt):
            kept(tmp_path / "init")
    assert load(tmp_path / "init-best").provenance.meta_steps_done == 1
    kept(tmp_path / "init", resume=True)
    assert load(tmp_path / "init-best").provenance.meta_steps_done == 2


@pytest.mark.usefixtures("_known_accuracies")
def test_the_checkpoint_is_written_before_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a process that is killed between the two has something to go on from, which is the best."""
    saved: list[int] = []

    def look(*_: object) -> None:
        saved.append(load_checkpoint(tmp_path / "init.checkpoint").provenance.meta_steps_done)

    monkeypatch.setattr(journal, "write_folder", look)
    kept(tmp_path / "init")
    assert saved == [1, 2]


def tensors(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in read_folder(folder).items() if name.endswith(".safetensors")}


def test_a_best_that_the_disk_refuses_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _: dict[str, bytes]) -> Path:
        raise SaveError(f"could not write {path}: no space left on device")

    monkeypatch.setattr(journal, "write_folder", refuse)
    told: list[Event] = []
    kept(tmp_path / "init", on_event=told.append)
    assert {event.path.name for event in told if isinstance(event, Unsaved)} == {"init-best"}
    assert load(tmp_path / "init").provenance.meta_steps_done == 5


def test_a_best_of_another_training_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "init-best").mkdir()
    (tmp_path / "init-best" / "mine").touch()
    with pytest.raises(OutputExists, match="init-best already holds something"):
        kept(tmp_path / "init")


def test_where_there_is_nothing_to_choose_by_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="evaluate_every is 0, so that none is measured"):
        train_to_folder(PICTURES, tmp_path / "init", evaluate_every=0, keep_best=True)
    with pytest.raises(ConfigError, match="there are no outer steps to choose from"):
        train_to_folder(ALONE, tmp_path / "init", keep_best=True)
    assert not list(tmp_path.iterdir())
