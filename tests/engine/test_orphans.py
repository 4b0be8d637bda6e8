from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fewshot_sdk.engine.orphans import end_with_parent

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills by SIGKILL")
PARENT = """
import multiprocessing, os, signal, sys
from tests.engine import test_orphans
child = multiprocessing.get_context("spawn").Process(target=getattr(test_orphans, sys.argv[1]))
child.start()
os.read(0, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def follows() -> None:
    """A worker that would wait for ever, for example for a rendezvous."""
    end_with_parent()
    report("ready")
    threading.Event().wait()


def follows_by_the_pipe_alone() -> None:
    """The same on a system other than Linux."""
    sys.platform = "another"
    follows()


def comes_late() -> None:
    """A worker that calls `end_with_parent` only after its parent has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    report("ready")
    parent.join()
    report("alone")
    end_with_parent()
    report("working on")


def report(what: str) -> None:
    os.write(1, f"{what}\n".encode())


@pytest.mark.parametrize(
    ("worker", "output"), [("follows", ""), ("follows_by_the_pipe_alone", ""), ("comes_late", "alone\n")]
)
def test_a_worker_ends_when_its_parent_is_killed(worker: str, output: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, worker],
        cwd=Path(__file__).parents[2],  # not by conftest, which the worker would import, and PyTorch with it
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    try:
        assert parent.communicate("!", timeout=60)[0] == output  # waits until no process can write any more
    except subprocess.TimeoutExpired:
        os.killpg(parent.pid, 9)
        pytest.fail("the worker lives on")


INTERRUPTED = """
import multiprocessing, os, signal
from fewshot_sdk.engine.orphans import interrupts_waiting, take_interrupts
if __name__ == "__main__":
    with interrupts_waiting():
        child = multiprocessing.get_context("spawn").Process(target=take_interrupts)
        child.start()
        os.kill(child.pid, signal.SIGINT)
        child.join(60)
        print(child.exitcode)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            multiprocessing.Event().wait(60)
        except KeyboardInterrupt:
            print("interrupted")
"""


def test_a_process_that_is_interrupted_while_it_starts_ends_without_a_traceback(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.stderr) == (["130", "interrupted"], "")
