"""Kill meta-training with SIGKILL at random moments, resume it, and compare the bytes.

A separate program: it loads PyTorch once, computes nothing itself, and forks each run.
Usage: kill_runs.py FOLDER RUNS SEED
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import fewshot_sdk.config.presets
import fewshot_sdk.data.glyphs
import fewshot_sdk.meta.curve
import fewshot_sdk.meta.run
from fewshot_cli.main import app
from fewshot_sdk.config.records import Metric
from tests.conftest import tiny_recipe


def start(output: Path, *, resume: bool) -> int:
    """Forks a training; returns its process id."""
    words = ["meta-train", "--preset", "glyphs", "--output", str(output), "--checkpoint-every", "2"]
    words += ["--evaluate-every", "5"]
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            app([*words, "--resume"] if resume else words)
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        os._exit(9)
    return child


def weights(output: Path) -> tuple[bytes, bytes, list[Metric]]:
    """What must not depend on interruptions: weights, inner state, and the metrics without seconds and memory."""
    lines = (output / "metrics.jsonl").read_bytes().splitlines()
    metrics = [Metric.from_json(line).replace(seconds=0.0, memory_mb=None) for line in lines]
    return (output / "model.safetensors").read_bytes(), (output / "inner_state.safetensors").read_bytes(), metrics


def main(folder: Path, runs: int, seed: int) -> None:
    fewshot_sdk.data.glyphs.GLYPH_CLASSES = 30
    fewshot_sdk.meta.curve.TASKS = 5
    tiny = tiny_recipe()
    fewshot_sdk.config.presets.PRESETS["glyphs"] = tiny.replace(
        meta=tiny.meta.replace(meta_steps=20, tasks_per_step=1), inner=tiny.inner.replace(steps=2)
    )
    rng = random.Random(seed)
    assert os.waitpid(start(folder / "first", resume=False), 0)[1] == 0  # draws the glyphs, too
    began = time.monotonic()
    assert os.waitpid(start(folder / "whole", resume=False), 0)[1] == 0
    duration = time.monotonic() - began
    expected = weights(folder / "whole")
    assert [metric.meta_steps for metric in expected[2]] == [5, 10, 15, 20]
    kills = resumed = 0
    for run in range(runs):
        output = folder / f"run{run}"
        checkpoint = Path(f"{output}.checkpoint")
        for attempt in range(3):
            resumed += checkpoint.exists()
            child = start(output, resume=checkpoint.exists())
            began, moment = time.monotonic(), rng.uniform(0, duration)
            ended, status = os.waitpid(child, os.WNOHANG)
            while not ended:
                if attempt < 2 and time.monotonic() - began >= moment:
                    os.kill(child, signal.SIGKILL)
                    ended, status = os.waitpid(child, 0)
                else:
                    time.sleep(0.002)
                    ended, status = os.waitpid(child, os.WNOHANG)
            kills += os.WIFSIGNALED(status)
            if not os.WIFSIGNALED(status):  # the machine may have become faster or slower since
                duration = time.monotonic() - began
            if not os.WIFSIGNALED(status):
                assert status == 0, f"run {run}, attempt {attempt}: status {status}"
                break
            if output.exists():
                break
        assert weights(output) == expected, f"run {run} ended in other bits"
    sys.stdout.write(f"{runs} runs, {kills} kills, {resumed} resumed, all bit-identical\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
