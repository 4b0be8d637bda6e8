from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fewshot_sdk.artifacts.initialization import load_checkpoint
from tests.conftest import REPOSITORY

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}


def kill_runs(folder: Path, runs: int) -> int:
    """How often training was killed over `runs` runs that all ended in the same bits."""
    command = [sys.executable, "-m", "tests.kill_runs", str(folder), str(runs), "0"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) kills, \d+ resumed, all bit-identical", done.stdout)
    assert found
    return int(found[1])


def test_kill_9_at_random_moments_loses_nothing_and_changes_no_bit(tmp_path: Path) -> None:
    assert kill_runs(tmp_path, 6) >= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_killed_runs(tmp_path: Path) -> None:
    kill_runs(tmp_path, 200)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, "1"), (signal.SIGTERM, "2")])
def test_a_signal_saves_and_says_how_to_continue(tmp_path: Path, number: signal.Signals, workers: str) -> None:
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
