"""Processes for the benchmarks: a failing one ends the benchmark with its message, and none outlives it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Generic, TypeVar

from fewshot_sdk.engine.orphans import end_with_parent
from fewshot_sdk.errors import FewshotError

Q = TypeVar("Q")
A = TypeVar("A")


class ProcessFailed(FewshotError):
    """A process that a benchmark started has failed."""


@dataclass(frozen=True)
class _Failure:
    message: str


class Child(Generic[Q, A]):
    """A process that answers questions, one after the other.

    make: called once in that process, with the arguments; the function it returns is called with each question. All of
    these and the answers are pickled. name: the process's name in error messages.
    """

    def __init__(self, name: str, make: Callable[..., Callable[[Q], A]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that only the process holds it: when it dies, `recv` here ends

    def ask(self, question: Q) -> A:
        """The answer to a question. Raises ProcessFailed, with the reason, if the process dies or has died."""
        with suppress(OSError):  # it has died, and may have sent its reason
            self._pipe.send(question)
        try:
            answer: A | _Failure = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise ProcessFailed(f"{self._name} {_end(self._process.exitcode)}") from None
        if isinstance(answer, _Failure):
            raise ProcessFailed(f"{self._name} failed: {answer.message}")
        return answer

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The cost of a command: wall seconds, CPU seconds of all its threads, peak memory in MB; and its stderr."""

    seconds: float
    processor_seconds: float
    megabytes: float
    stderr: str


def finish(
    command: Sequence[str], *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Finished:
    """Run a command to its end. Raises ProcessFailed, with its stderr, if it fails."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        stderr = child.stderr.read()
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise ProcessFailed(f"`{' '.join(command)}` {_end(child.returncode)}\n{stderr.strip()}")
    spent = used.ru_utime + used.ru_stime
    return Finished(seconds=seconds, processor_seconds=spent, megabytes=used.ru_maxrss / 1000, stderr=stderr)


def _end(code: int | None) -> str:
    """How a process with this exit code ended, in words."""
    return f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"


def _answer(pipe: Connection, make: Callable[..., Callable[[Q], A]], arguments: tuple[object, ...]) -> None:
    """Answer questions in the process until the other end of the pipe is closed."""
    end_with_parent()
    question: Q
    try:
        answer = make(*arguments)
        for question in _questions(pipe):
            pipe.send(answer(question))
    except Exception as error:
        pipe.send(_Failure(f"{type(error).__name__}: {error}"))
        raise


def _questions(pipe: Connection) -> Iterator[Q]:
    with suppress(EOFError):
        while True:
            yield pipe.recv()
