"""Which trainings a folder holds, and how far they got."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_sdk import save
from fewshot_sdk.artifacts.initialization import Initialization, save_checkpoint
from fewshot_sdk.config.recipe import Pretraining
from fewshot_sdk.config.records import Metric, Progress
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.errors import DataError
from fewshot_sdk.meta.pretraining import Epoch, save_pretraining
from fewshot_sdk.storage import metrics
from fewshot_sdk.storage.locks import alone_at
from fewshot_sdk.storage.runs import TrainingRun, find_runs
from fewshot_sdk.storage.siblings import checkpoint_of, metrics_of, pretraining_of
from tests.conftest import REPOSITORY

POINTS = tuple(
    Metric(meta_steps=step, seconds=1.0, loss=1.0, accuracy=accuracy, ci95=0.1, tasks=3, ways=5)
    for step, accuracy in ((1, 0.9), (2, 0.5))
)


def at(init: Initialization, done: int) -> Initialization:
    """The initialization as it is in a checkpoint of a longer training."""
    recipe = init.recipe.replace(meta=init.recipe.meta.replace(meta_steps=9))
    return replace(init, recipe=recipe, provenance=init.provenance.replace(meta_steps_done=done, seconds=61.5))


def found(folder: Path) -> dict[str, TrainingRun]:
    return {run.name: replace(run, changed=0.0) for run in find_runs(folder)}


def test_a_folder_whose_entries_may_not_be_looked_at_is_listed_all_the_same(
    init: Initialization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(at(init, 4), checkpoint_of(tmp_path / "stopped"))
    (tmp_path / "stopped.checkpoint.lock").touch()

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    runs = found(tmp_path)
    assert (runs["stopped"].state, "Permission denied" in runs["stopped"].reason) == ("damaged", True)


def test_an_output_named_like_a_checkpoint_is_no_damaged_training(init: Initialization, tmp_path: Path) -> None:
    save(init, tmp_path / "mine.checkpoint")
    assert {name: run.state for name, run in found(tmp_path).items()} == {"mine.checkpoint": "finished"}


def test_a_finished_an_interrupted_and_a_running_training_are_told_apart(init: Initialization, tmp_path: Path) -> None:
    save(replace(init, metrics=POINTS), tmp_path / "done")
    save(at(init, 2), tmp_path / "done-best")  # no training of its own
    save_checkpoint(at(init, 4), checkpoint_of(tmp_path / "stopped"))
    save_checkpoint(at(init, 4), checkpoint_of(tmp_path / "going"))
    metrics.begin(metrics_of(tmp_path / "going"), [Progress(meta_steps=7, seconds=80.0, loss=1.0)])
    (tmp_path / "going.metrics.jsonl").open("a").close()
    (tmp_path / "other").mkdir()
    (tmp_path / "file.txt").touch()
    (tmp_path / "killed.checkpoint.lock").touch()
    with (
        alone_at(tmp_path / "going", checkpoint_of(tmp_path / "going")),
        alone_at(tmp_path / "new", checkpoint_of(tmp_path / "new")),
    ):
        runs = found(tmp_path)
    assert {name: (run.state, run.done, run.total, run.seconds) for name, run in runs.items()} == {
        "done": ("finished", 2, 2, init.provenance.seconds),
        "stopped": ("interrupted", 4, 9, 61.5),
        "going": ("running", 7, 9, 80.0),
        "new": ("running", 0, None, 0.0),
    }
    assert (runs["done"].last, runs["done"].best) == (POINTS[1], POINTS[0])
    assert {(run.recipe, run.data) for run in runs.values()} == {("glyphs", "glyphs, split seeded"), ("", "")}


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics.begin(path, [Progress(meta_steps=7, seconds=80.0, loss=1.0)])
    with path.open("ab") as file:
        file.write(b'{"meta_steps": 8, "sec')
    line = metrics.last_line(path)
    assert line is not None
    assert line.meta_steps == 7
    assert metrics.last_line(tmp_path / "none") is None


def test_pretraining_is_counted_in_epochs(init: Initialization, few_glyphs: ClassImages, tmp_path: Path) -> None:
    recipe = init.recipe.replace(pretraining=Pretraining(epochs=5, batch_size=8, pictures="drawings"))
    epoch = Epoch(done=2, epochs=5, loss=1.0, seconds=3.5, tensors={})
    save_pretraining(epoch, recipe, 0, few_glyphs, pretraining_of(tmp_path / "init"))
    (run,) = find_runs(tmp_path)
    assert (run.work, run.done, run.total, run.seconds, run.state) == ("pre-training", 2, 5, 3.5, "interrupted")
    assert (run.recipe, run.data) == ("glyphs", "glyphs, split seeded")


def test_the_latest_comes_first(init: Initialization, tmp_path: Path) -> None:
    for name, time in (("a", 3), ("b", 9), ("c", 6)):
        os.utime(save(init, tmp_path / name) / "config.json", (time, time))
    assert [run.name for run in find_runs(tmp_path)] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", b"{}", "was changed or damaged"),
        ("config.json", None, "no such file"),
        ("manifest.json", b"[]", "is not a manifest"),
        ("metrics.jsonl", b"{", "was changed or damaged"),
    ],
)
def test_a_damaged_folder_is_listed_as_such(
    name: str, content: bytes | None, reason: str, init: Initialization, tmp_path: Path
) -> None:
    save(replace(init, metrics=POINTS), tmp_path / "init")
    if content is None:
        (tmp_path / "init" / name).unlink()
    else:
        (tmp_path / "init" / name).write_bytes(content)
    (run,) = find_runs(tmp_path)
    assert (run.state, reason in run.reason) == ("damaged", True), run.reason


@pytest.mark.parametrize("suffix", ["checkpoint", "pretraining"])
def test_a_damaged_checkpoint_is_listed_as_such(suffix: str, init: Initialization, tmp_path: Path) -> None:
    whole = save_checkpoint(init, tmp_path / f"init.{suffix}").read_bytes()
    for damaged in (b"", b"none", whole[: len(whole) // 2], whole.replace(b"config.json", b"confiq.json")):
        (tmp_path / f"init.{suffix}").write_bytes(damaged)
        (run,) = find_runs(tmp_path)
        assert (run.name, run.state, bool(run.reason)) == ("init", "damaged", True)


def test_where_there_is_no_folder_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="no such file or directory; expected a folder with outputs of"):
        find_runs(tmp_path / "none")
    with pytest.raises(DataError, match="not a directory"):
        find_runs(tmp_path / "file")
    assert find_runs(tmp_path) == []


def test_no_weights_are_read_and_no_torch_is_loaded(init: Initialization, tmp_path: Path) -> None:
    save(init, tmp_path / "init")
    save_checkpoint(at(init, 1), tmp_path / "other.checkpoint")
    (tmp_path / "init" / "model.safetensors").unlink()
    program = (
        "import sys; from pathlib import Path; from fewshot_sdk.storage.runs import find_runs\n"
        "print(len(find_runs(Path(sys.argv[1]))), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "2 False\n"
