"""Hostile inputs: thousands of damaged copies of good files, each read as a command would, in bounds and judged.

Good is success, or a FewshotError of few words. A fault is any other exception, a crash, more than 2 s of processor
time, more than 300 MB, or a warning that a person would see. A fault repeats by its kind, seed and number.

python -m tests.faults.fuzz KIND N SEED [FIRST]   try N inputs, numbered from FIRST, and write the faulty ones to FAULTS
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random

from fewshot_sdk.errors import FewshotError, SupportError
from tests.faults.mutation import mutated

REPOSITORY = Path(__file__).parents[2]
TABLE = "tests.faults.entrances"
SECONDS, MEGABYTES = 2.0, 300
MOST_FAULTS = 40  # then a run ends: the rest would be the same
LONGEST, MOST_LINES = 4000, 7  # of a message
_ADDRESS_SPACE = 7 * 2**30
_WITHOUT_PROGRESS = 300.0  # seconds of wall time, for what waits without computing
_STATE = struct.Struct("qqq")  # the number of the input at work, how many were read and how many refused


@dataclass
class Outcome:
    """What came of some inputs of a kind: how many were read, how many refused, and the faults by number."""

    kind: str
    seed: int
    tried: int = 0
    read: int = 0
    refused: int = 0
    faults: dict[int, str] = field(default_factory=dict)


def fuzz(kind: str, n: int, seed: int, first: int = 0, table: str = TABLE) -> Outcome:
    """Try n inputs in worker processes, another one after each crash. table: the module whose KINDS has the kind."""
    outcome, last = Outcome(kind, seed), first + n
    with tempfile.TemporaryDirectory(prefix="fewshot-fuzz-") as home:
        state = Path(home, "state")
        at = first
        while at < last and len(outcome.faults) < MOST_FAULTS:
            state.write_bytes(_STATE.pack(at - 1, 0, 0))
            status, said = _worked(table, kind, seed, at, last, Path(home))
            number, read, refused = _STATE.unpack(state.read_bytes())
            outcome.read, outcome.refused = outcome.read + read, outcome.refused + refused
            for line in said.splitlines():
                if line.startswith("{"):
                    outcome.faults |= {int(key): what for key, what in json.loads(line).items()}
            if status == 0:
                at = last
            elif number < at or status > 0:
                raise RuntimeError(f"the worker itself failed: {said[-3000:]}")
            else:
                if number not in outcome.faults:
                    outcome.faults[number] = _end(status)
                at = number + 1
    outcome.tried = outcome.read + outcome.refused + len(outcome.faults)
    return outcome


def _end(status: int) -> str:
    name = signal.Signals(-status).name
    return f"over {SECONDS:g} s of processor time" if name == "SIGPROF" else f"ended by {name}"


def _worked(table: str, kind: str, seed: int, first: int, last: int, home: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.faults.fuzz", "--work", table, kind, str(seed), str(first), str(last)]
    environment = {**os.environ, "HOME": str(home), "FEWSHOT_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    log = home / "log"
    with log.open("w+b") as output:
        worker = subprocess.Popen(
            [*command, str(home)], env=environment, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT
        )
        seen, since = b"", time.monotonic()
        while True:
            try:
                status = worker.wait(5)
                break
            except subprocess.TimeoutExpired:
                now = (home / "state").read_bytes()
                if now != seen:
                    seen, since = now, time.monotonic()
                elif time.monotonic() - since > _WITHOUT_PROGRESS:
                    worker.kill()
                    status = worker.wait()
                    break
    return status, log.read_text(errors="replace")


def seeds_of(kind: str, table: str, home: Path) -> Sequence[bytes]:
    """The good inputs of a kind, made in a folder of `home`."""
    place = home / "seeds"
    place.mkdir()
    found: Sequence[bytes] = import_module(table).KINDS[kind].seeds(place)
    shutil.rmtree(place)
    return found


def input_of(kind: str, seeds: Sequence[bytes], seed: int, number: int, only: str) -> bytes:
    """The input of this number: first the good ones, then damaged copies."""
    if number < len(seeds):
        return seeds[number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mutated(seeds, Random(f"{kind} {seed} {number}"), only)


def work(table: str, kind: str, seed: int, first: int, last: int, home: Path) -> None:
    """Try the inputs, noting each in the file `state` before it, and faults in lines of JSON."""
    wanted, state = import_module(table).KINDS[kind], os.open(home / "state", os.O_WRONLY)
    seeds = seeds_of(kind, table, home)
    place = home / "input"
    judged(wanted.enter, seeds[0], _emptied(place))  # imports and what is kept count for no input
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _bound_process()
    read = refused = 0
    for number in range(first, last):
        data = input_of(kind, seeds, seed, number, wanted.only)
        os.pwrite(state, _STATE.pack(number, read, refused), 0)
        _emptied(place)
        before = _reset_peak()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        fault = judged(wanted.enter, data, place)
        signal.setitimer(signal.ITIMER_PROF, 0)
        grown = (_peak() - before) / 1000
        if number < len(seeds) and fault == "":
            fault = "a good one is refused"
        if grown > MEGABYTES:
            fault = f"{grown:.0f} MB, after which: {fault or 'read'}"
        read, refused = read + (fault is None), refused + (fault == "")
        if fault:
            sys.stdout.write(json.dumps({number: fault}) + "\n")
            sys.stdout.flush()
        os.pwrite(state, _STATE.pack(number, read, refused), 0)


def _emptied(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


def judged(enter: Callable[[bytes, Path], object], data: bytes, place: Path) -> str | None:
    """None for an input that is read, "" for one that is refused as it should be, else what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            enter(data, place)
    except FewshotError as error:
        said = str(error)
        lines = MOST_LINES if isinstance(error, SupportError) else 1  # one for each of the first few files or rows
        if not said or len(said) > LONGEST or len(said.split("\n")) > lines:
            return f"{type(error).__name__} with a message of {len(said)} characters: {said[:300]!r}"
        return ""
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "fewshot_sdk" in frame.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__}: {str(error)[:300]} ({where})"
    return None


def _bound_process() -> None:
    """No core files, and an end to the memory before the machine's; what is judged is the resident memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, used + _ADDRESS_SPACE)):
        resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The most resident memory since the last reset, in kB."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])


def main(kind: str, n: int, seed: int, first: int = 0) -> Outcome:
    """Try, print what came of it, and keep the faulty inputs in the folder that FAULTS names, else in ./faults."""
    outcome = fuzz(kind, n, seed, first)
    sys.stdout.write(json.dumps(vars(outcome), indent=1) + "\n")
    if outcome.faults:
        folder = Path(os.environ.get("FAULTS", "faults"))
        folder.mkdir(exist_ok=True, parents=True)
        with tempfile.TemporaryDirectory() as home:
            seeds = seeds_of(kind, TABLE, Path(home))
        for number in outcome.faults:
            data = input_of(kind, seeds, seed, number, import_module(TABLE).KINDS[kind].only)
            (folder / f"{kind.replace(' ', '-')}-{seed}-{number}").write_bytes(data)
    return outcome


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        number, first, last = map(int, sys.argv[4:7])
        work(sys.argv[2], sys.argv[3], number, first, last, Path(sys.argv[7]))
    else:
        main(sys.argv[1], *map(int, sys.argv[2:]))
