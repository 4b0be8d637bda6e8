"""Kill meta-training with SIGKILL at random moments, resume it, and compare the bytes.

A separate program: it loads PyTorch once, computes nothing itself, and forks each run. A moment is a number of calls
of our functions, and of C's from there, so that moments are spread alike over the work on machines of any speed; half
of the moments are within saves. With two workers the main process, one of them, or all processes are killed.
Usage: kill_runs.py FOLDER RUNS SEED WORKERS [spawn]   spawn: workers start as they do for users, which takes longer
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal
from unittest.mock import patch

import torch.distributed.launcher.api as launcher

import fewshot_sdk.config.presets
import fewshot_sdk.data.glyphs
import fewshot_sdk.meta.curve
import fewshot_sdk.meta.run
from fewshot_cli.main import app
from fewshot_sdk.config.records import Metric
from fewshot_sdk.engine import workers as engine
from fewshot_sdk.storage.metrics import from_lines
from fewshot_sdk.storage.plots import curve
from tests.conftest import REPOSITORY, tiny_recipe

OURS = (str(REPOSITORY / "fewshot_sdk"), str(REPOSITORY / "cli"))
SAVES = {"write_archive", "write_folder", "replace_folder", "overwrite_file"}
PLAN, COUNTS = "FEWSHOT_TEST_KILL", "FEWSHOT_TEST_COUNTS"  # for workers, which may start without our variables
Victim = Literal["main", "one", "all"]
PATIENCE = 120.0  # seconds, for processes to end


@dataclass(frozen=True)
class Kill:
    """SIGKILL at call number `last` of a process, the main one or a rank, counting those within saves alone or all."""

    counted: str
    last: int
    in_saves: bool
    victim: Victim

    def text(self) -> str:
        return f"{self.counted} {self.last} {int(self.in_saves)} {self.victim}"


class Calls:
    """Counts calls, all and those within saves, and kills at the one that is asked for."""

    def __init__(self, process: str) -> None:
        self.process, self.made, self.saving, self.depth = process, 0, 0, 0
        counted, last, in_saves, victim = os.environ.get(PLAN, "none 0 0 main").split()
        self.last = int(last) if counted == process else -1
        self.in_saves, self.victim = in_saves == "1", victim

    def __call__(self, frame: FrameType, event: str, _about: object) -> None:
        if not frame.f_code.co_filename.startswith(OURS):
            return
        if frame.f_code.co_name in SAVES and event in ("call", "return"):
            self.depth += 1 if event == "call" else -1
        if event not in ("call", "c_call"):
            return
        self.made += 1
        self.saving += self.depth > 0
        if (self.saving == self.last and self.depth > 0) if self.in_saves else self.made == self.last:
            self.kill()

    def kill(self) -> None:
        if self.victim == "all":
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getppid() if self.victim == "main" and self.process != "main" else os.getpid(), signal.SIGKILL)
        time.sleep(PATIENCE)  # this process must end with its parent

    def note(self) -> None:
        if where := os.environ.get(COUNTS):
            Path(where, self.process).write_text(f"{self.made} {self.saving}")


def counting(process: str, work: Callable[[], Any]) -> Any:
    calls = Calls(process)
    sys.setprofile(calls)
    try:
        return work()
    finally:
        sys.setprofile(None)
        calls.note()


@functools.wraps(engine._run_worker)  # a worker that is spawned looks it up by this name, after importing this module
def run_worker(work: Any, arguments: Any) -> Any:
    sys.setprofile(None)  # that of the main process, if this one was forked from it
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    return counting(os.environ["RANK"], lambda: run_worker.__wrapped__(work, arguments))


engine._run_worker = run_worker
fewshot_sdk.data.glyphs.GLYPH_CLASSES = 30
fewshot_sdk.meta.curve.TASKS = 5


def run(output: Path, workers: int, *, resume: bool, kill: Kill | None = None) -> bool:
    """Trains in a process group of its own, until all of it has ended; whether it was killed."""
    words = ["meta-train", "--preset", "glyphs", "--output", str(output), "--checkpoint-every", "2"]
    words += ["--evaluate-every", "5", "--keep-best", "--workers", str(workers)]
    child = os.fork()
    if child == 0:
        os.setsid()
        os.environ[PLAN] = kill.text() if kill else "none 0 0 main"
        os.dup2(os.open(output.parent / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        try:
            counting("main", lambda: app([*words, "--resume"] if resume else words))
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        os._exit(9)
    status = os.waitpid(child, 0)[1]
    all_end(child)
    said = (output.parent / "said").read_text()
    assert "Traceback" not in said, said
    if os.WIFSIGNALED(status):
        assert kill is not None
        assert kill.victim != "one" or kill.counted == "main"
        return True
    if os.WEXITSTATUS(status) == 1 and kill and kill.victim == "one":
        assert " died (" in said, said
        return True
    assert status == 0, f"{output.name}: status {status}: {said}"
    return False


def all_end(session: int) -> None:
    """Waits until no process of a session is left."""
    until = time.monotonic() + PATIENCE
    while left := [path.name for path in Path("/proc").glob("[0-9]*") if session_of(path) == session]:
        assert time.monotonic() < until, f"still running: {left}"
        time.sleep(0.01)


def session_of(process: Path) -> int:
    """The session of a process that runs, or 0."""
    try:
        state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return 0
    return 0 if state == "Z" else int(session)


def weights(output: Path) -> tuple[bytes, bytes, list[Metric]]:
    """What must not depend on interruptions: weights, inner state, and the curve without time and memory."""
    points, _ = from_lines((output / "metrics.jsonl").read_bytes())
    metrics = [point.replace(seconds=0.0, memory_mb=None, tasks_per_second=None) for point in points]
    return (output / "model.safetensors").read_bytes(), (output / "inner_state.safetensors").read_bytes(), metrics


def drawn(rng: random.Random, counts: dict[str, tuple[int, int]], in_saves: bool) -> Kill:
    """A moment and a victim."""
    victims: tuple[Victim, ...] = ("main", "one", "all") if len(counts) > 1 else ("main",)
    victim = rng.choice(victims)
    processes = [name for name in sorted(counts) if counts[name][in_saves] and (victim != "one" or name != "main")]
    counted = rng.choice(processes)
    return Kill(counted, rng.randint(1, counts[counted][in_saves]), in_saves, victim)


def main(folder: Path, runs: int, seed: int, workers: int) -> None:
    tiny = tiny_recipe()
    few = tiny.inner.replace(steps=2)
    fewshot_sdk.config.presets.PRESETS["glyphs"] = tiny.replace(
        meta=tiny.meta.replace(meta_steps=20, tasks_per_step=workers), inner=few, adaptation=few
    )
    rng = random.Random(seed)
    temporary = folder / "tmp"
    for made in (temporary, folder / "counts"):
        made.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    run(folder / "first", 1, resume=False)  # draws the glyphs, too
    curve({"glyphs": weights(folder / "first")[2]})  # loads matplotlib once
    os.environ[COUNTS] = str(folder / "counts")
    run(folder / "whole", workers, resume=False)
    del os.environ[COUNTS]
    counts: dict[str, tuple[int, int]] = {}
    for path in (folder / "counts").iterdir():
        made_calls, saving = map(int, path.read_text().split())
        counts[path.name] = made_calls, saving
    assert len(counts) == (1 if workers == 1 else workers + 1)
    expected, best = weights(folder / "first"), weights(folder / "first-best")
    assert (weights(folder / "whole"), weights(folder / "whole-best")) == (expected, best)
    assert [metric.meta_steps for metric in expected[2]] == [5, 10, 15, 20]
    kills, saves, resumed = dict.fromkeys(("main", "one", "all"), 0), 0, 0
    for number in range(runs):
        home = folder / f"run{number}"
        home.mkdir()
        output, checkpoint = home / "init", home / "init.checkpoint"
        for turn in range(3):
            kill = drawn(rng, counts, (number + turn) % 2 == 1) if turn < 2 else None
            resumed += checkpoint.exists()
            killed = run(output, workers, resume=checkpoint.exists(), kill=kill)
            if killed and kill:
                kills[kill.victim] += 1
                saves += kill.in_saves
            if not killed or output.exists():
                break
        assert weights(output) == expected, f"run {number} ended in other bits"
        assert weights(Path(f"{output}-best")) == best, f"run {number} kept another best"
        left = {path.name for path in home.iterdir()} - {"init", "init-best", "said"}
        assert killed or not left, f"run {number} left {left}"
        left = {
            path.name for path in temporary.iterdir() if not path.name.startswith("pytorch-errorfile-")
        }  # empty files
        assert killed or workers == 1 or not left, f"run {number} left {left} in TMPDIR"
    told = f"{runs} runs, {sum(kills.values())} kills, {resumed} resumed, all bit-identical"
    sys.stdout.write(f"{told}; {saves} in saves; {kills['main']} main, {kills['one']} one, {kills['all']} all\n")


def forked(**settings: object) -> launcher.LaunchConfig:
    return real(**{**settings, "start_method": "fork"})  # type: ignore[arg-type]


real = launcher.LaunchConfig
if __name__ == "__main__":
    with patch.object(launcher, "LaunchConfig", real if sys.argv[5:] == ["spawn"] else forked):
        main(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:5]))
