"""Kill meta-training with SIGKILL at random moments, resume it, and compare the bytes.

A separate program: it loads PyTorch once, computes nothing itself, and forks each run. A moment is a number of calls
of our functions, and of C's from there, so that moments are spread alike over the work on machines of any speed.
Usage: kill_runs.py FOLDER RUNS SEED
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from types import FrameType

import fewshot_sdk.config.presets
import fewshot_sdk.data.glyphs
import fewshot_sdk.meta.curve
import fewshot_sdk.meta.run
from fewshot_cli.main import app
from fewshot_sdk.config.records import Metric
from fewshot_sdk.storage.metrics import from_lines
from fewshot_sdk.storage.plots import curve
from tests.conftest import REPOSITORY, tiny_recipe

OURS = (str(REPOSITORY / "fewshot_sdk"), str(REPOSITORY / "cli"))


def run(output: Path, *, resume: bool, last: int = sys.maxsize) -> tuple[bool, int]:
    """Trains in a process that kills itself at its call number `last`; whether it did, or else how many it made."""
    words = ["meta-train", "--preset", "glyphs", "--output", str(output), "--checkpoint-every", "2"]
    words += ["--evaluate-every", "5", "--keep-best"]
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        made = 0

        def count(frame: FrameType, event: str, _about: object) -> None:
            nonlocal made
            made += event in ("call", "c_call") and frame.f_code.co_filename.startswith(OURS)
            if made == last:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        try:
            app([*words, "--resume"] if resume else words)
        except SystemExit as stop:
            sys.setprofile(None)
            os.write(its, str(made).encode())
            os._exit(int(stop.code or 0))
        os._exit(9)
    os.close(its)
    with os.fdopen(ours) as pipe:
        calls = pipe.read()  # until the process has ended
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True, last
    assert status == 0, f"{output.name}: status {status}"
    return False, int(calls)


def weights(output: Path) -> tuple[bytes, bytes, list[Metric]]:
    """What must not depend on interruptions: weights, inner state, and the curve without time and memory."""
    points, _ = from_lines((output / "metrics.jsonl").read_bytes())
    metrics = [point.replace(seconds=0.0, memory_mb=None, tasks_per_second=None) for point in points]
    return (output / "model.safetensors").read_bytes(), (output / "inner_state.safetensors").read_bytes(), metrics


def main(folder: Path, runs: int, seed: int) -> None:
    fewshot_sdk.data.glyphs.GLYPH_CLASSES = 30
    fewshot_sdk.meta.curve.TASKS = 5
    tiny = tiny_recipe()
    few = tiny.inner.replace(steps=2)
    fewshot_sdk.config.presets.PRESETS["glyphs"] = tiny.replace(
        meta=tiny.meta.replace(meta_steps=20, tasks_per_step=1), inner=few, adaptation=few
    )
    rng = random.Random(seed)
    run(folder / "first", resume=False)  # draws the glyphs, too
    curve({"glyphs": weights(folder / "first")[2]})  # loads matplotlib once
    _, calls = run(folder / "whole", resume=False)
    expected, best = weights(folder / "whole"), weights(folder / "whole-best")
    assert [metric.meta_steps for metric in expected[2]] == [5, 10, 15, 20]
    kills = resumed = 0
    for number in range(runs):
        output = folder / f"run{number}"
        checkpoint = Path(f"{output}.checkpoint")
        for last in (rng.randint(1, calls), rng.randint(1, calls), sys.maxsize):
            resumed += checkpoint.exists()
            killed, _ = run(output, resume=checkpoint.exists(), last=last)
            kills += killed
            if not killed or output.exists():
                break
        assert weights(output) == expected, f"run {number} ended in other bits"
        assert weights(Path(f"{output}-best")) == best, f"run {number} kept another best"
    sys.stdout.write(f"{runs} runs, {kills} kills, {resumed} resumed, all bit-identical\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
