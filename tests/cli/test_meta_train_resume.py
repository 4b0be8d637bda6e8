from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fewshot_cli.main import app
from fewshot_sdk.artifacts.initialization import Initialization, load_checkpoint, save_checkpoint
from fewshot_sdk.config import presets
from fewshot_sdk.errors import BundleError, SaveError
from fewshot_sdk.meta import training
from fewshot_sdk.storage.bundles import read_archive, write_archive
from tests.conftest import REPOSITORY, tiny_recipe

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}


def kill_runs(folder: Path, runs: int) -> tuple[int, int]:
    """How often training was killed and resumed, over `runs` runs that all ended in the same bits."""
    command = [sys.executable, "-m", "tests.kill_runs", str(folder), str(runs), "0"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) kills, (\d+) resumed, all bit-identical", done.stdout)
    assert found
    return int(found[1]), int(found[2])


def test_kill_9_at_random_moments_loses_nothing_and_changes_no_bit(tmp_path: Path) -> None:
    kills, resumed = kill_runs(tmp_path, 20)
    assert kills >= 15
    assert resumed >= 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_killed_runs(tmp_path: Path) -> None:
    kill_runs(tmp_path, 200)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals, workers: str) -> None:
    words = [sys.executable, "-m", "fewshot_cli.main", "meta-train", "--preset", "glyphs", "--meta-steps", "400"]
    environment = {**os.environ, **ENVIRONMENT}
    training = subprocess.Popen(
        [*words, "--output", str(tmp_path / "init"), "--checkpoint-every", "1", "--workers", workers],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint = tmp_path / "init.checkpoint"
    give_up = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < give_up:
        time.sleep(0.01)
    training.send_signal(number)
    _, said = training.communicate(timeout=60)
    assert training.returncode == 128 + number, said
    assert "--resume continues" in said
    assert "Traceback" not in said
    assert not (tmp_path / "init").exists()
    assert 0 < load_checkpoint(checkpoint).provenance.meta_steps_done < 400

    refused = subprocess.run([*words, "--output", tmp_path / "init"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "holds an unfinished training; continue it with --resume" in refused.stderr


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_whatever_ends_a_training_its_last_step_is_kept(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(presets.PRESETS, "glyphs", tiny_recipe())
    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 30)
    true_steps = training.meta_train

    def fails(*words: Any, **settings: Any) -> Iterator[training.MetaStep]:
        yield from itertools.islice(true_steps(*words, **settings), 3)
        raise error("by chance")

    monkeypatch.setattr(training, "meta_train", fails)
    words = ["meta-train", "--preset", "glyphs", "--meta-steps", "9", "--evaluate-every", "0", "--workers", "1"]
    with pytest.raises((error, SystemExit)):
        app([*words, "--output", str(tmp_path / "init")])
    assert load_checkpoint(tmp_path / "init.checkpoint").provenance.meta_steps_done == 3


def test_a_checkpoint_reads_back_as_it_was_written(init: Initialization, tmp_path: Path) -> None:
    path = save_checkpoint(init, tmp_path / "init.checkpoint")
    assert load_checkpoint(path).files() == init.files()
    save_checkpoint(init, path)  # in place of the older one
    assert [file.name for file in tmp_path.iterdir()] == ["init.checkpoint"]


def test_an_archive_is_the_same_bytes_for_the_same_files(tmp_path: Path) -> None:
    first = write_archive(tmp_path / "a", {"x": b"1", "y": b"2"}).read_bytes()
    assert write_archive(tmp_path / "b", {"x": b"1", "y": b"2"}).read_bytes() == first
    assert read_archive(tmp_path / "a") == {"x": b"1", "y": b"2"}


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", {"model.safetensors": bytes(300)})
    good = path.read_bytes()
    for position in range(0, len(good), 3):
        bad = bytearray(good)
        bad[position] ^= 4
        path.write_bytes(bad)
        with contextlib.suppress(BundleError):  # a bit that means nothing, as of a date, does not matter
            assert read_archive(path) == {"model.safetensors": bytes(300)}
    path.write_bytes(good[:-9])
    with pytest.raises(BundleError, match="not a checkpoint, or is damaged"):
        read_archive(path)
    with pytest.raises(BundleError, match="expected a checkpoint"):
        read_archive(tmp_path / "nowhere")


def test_a_checkpoint_that_the_disk_refuses_leaves_the_older_one(
    init: Initialization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(init, tmp_path / "init.checkpoint")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SaveError, match="no space left on device"):
        save_checkpoint(init, path)
    monkeypatch.undo()
    assert load_checkpoint(path).sha256 == init.sha256
