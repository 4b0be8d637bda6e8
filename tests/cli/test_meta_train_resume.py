from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fewshot_cli.main import app
from fewshot_sdk.artifacts.initialization import load_checkpoint
from tests.conftest import REPOSITORY

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes that are left in Linux's /proc")


def kill_runs(folder: Path, runs: int, *how: str) -> tuple[int, int]:
    """How often training was killed and resumed over `runs` runs that all ended in the same bits."""
    command = [sys.executable, "-m", "tests.kill_runs", str(folder), str(runs), "0", *how]
    done = subprocess.run(command, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) kills, (\d+) resumed, all bit-identical", done.stdout)
    assert found
    return int(found[1]), int(found[2])


@needs_proc
@pytest.mark.parametrize(("workers", "runs"), [("1", 5), ("2", 3)])
def test_kill_9_at_random_moments_loses_nothing_and_changes_no_bit(tmp_path: Path, workers: str, runs: int) -> None:
    kills, resumed = kill_runs(tmp_path, runs, workers)
    assert kills >= runs
    assert resumed >= runs // 2


@needs_proc
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("runs", "how"), [(110, ("1",)), (110, ("2",)), (15, ("2", "spawn"))])
def test_hundreds_of_kills(tmp_path: Path, runs: int, how: tuple[str, ...]) -> None:
    kills, _ = kill_runs(tmp_path, runs, *how)
    assert kills > 1.5 * runs


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGINT, 1),
        (signal.SIGTERM, 2),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_says_how_to_continue(
    tmp_path: Path,
    omniglot_root: Path,
    number: signal.Signals,
    workers: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["meta-train", "--preset", "omniglot", "--root", str(omniglot_root), "--output", str(tmp_path / "init")]
    training = subprocess.Popen(
        [sys.executable, "-m", "fewshot_cli.main", *words, "--checkpoint-every", "1", "--workers", str(workers)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint = tmp_path / "init.checkpoint"
    while not checkpoint.exists() and training.poll() is None:
        time.sleep(0.01)
    training.send_signal(number)  # long before the 80,000th step
    _, said = training.communicate(timeout=250)
    assert training.returncode == 128 + number, said
    assert "--resume continues" in said
    assert "Traceback" not in said
    assert not (tmp_path / "init").exists()
    assert load_checkpoint(checkpoint).provenance.meta_steps_done > 0

    with pytest.raises(SystemExit, match="1"):
        app(words)
    assert "holds an unfinished training run; continue it with --resume" in capsys.readouterr().err
