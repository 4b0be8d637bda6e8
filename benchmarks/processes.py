"""Other processes, for the benchmarks: one that fails ends the benchmark with its message, and none outlives it."""

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

    make: called once in that process, with the arguments; what it returns is called with each question. All of them,
    and the answers, are pickled. name: what a failure is told of.
    """

    def __init__(self, name: str, make: Callable[..., Callable[[Q], A]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._wire, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()  # held by the process alone: when it dies, `recv` here ends

    def ask(self, question: Q) -> A:
        """Its answer. Raises ProcessFailed if the process dies, or has died, with its reason."""
        with suppress(OSError):  # it has died, and may have left its reason
            self._wire.send(question)
        try:
            answer: A | _Failure = self._wire.recv()
        except (EOFError, OSError):
            self._process.join()
            raise ProcessFailed(f"{self._name} {_end(self._process.exitcode)}") from None
        if isinstance(answer, _Failure):
            raise ProcessFailed(f"{self._name} failed: {answer.message}")
        return answer

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._wire.close()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a command took.

    seconds: on the clock. processor_seconds: of all its threads. megabytes: the most memory it held. stderr: what it
    wrote there.
    """

    seconds: float
    processor_seconds: float
    megabytes: float
    stderr: str


def finish(
    command: Sequence[str], *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Finished:
    """Runs a command to its end. Raises ProcessFailed, with what it wrote to stderr, if it fails."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        said = child.stderr.read()
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise ProcessFailed(f"`{' '.join(command)}` {_end(child.returncode)}\n{said.strip()}")
    spent = used.ru_utime + used.ru_stime
    return Finished(seconds=seconds, processor_seconds=spent, megabytes=used.ru_maxrss / 1000, stderr=said)


def _end(code: int | None) -> str:
    """How a process ended that has this exit code."""
    return f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"


def _answer(wire: Connection, make: Callable[..., Callable[[Q], A]], arguments: tuple[object, ...]) -> None:
    """In the process: answers until the other end of the wire is closed."""
    end_with_parent()
    question: Q
    try:
        answer = make(*arguments)
        for question in _questions(wire):
            wire.send(answer(question))
    except Exception as error:
        wire.send(_Failure(f"{type(error).__name__}: {error}"))
        raise


def _questions(wire: Connection) -> Iterator[Q]:
    with suppress(EOFError):
        while True:
            yield wire.recv()
