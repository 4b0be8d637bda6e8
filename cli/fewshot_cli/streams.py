"""Standard output and standard error that may be closed, full, or without a reader."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from fewshot_sdk.errors import SaveError


def open_closed_streams() -> None:
    """Open the null device for closed standard streams, lest a file gets their number and receives their output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number: this one


@contextmanager
def data() -> Iterator[TextIO]:
    """Standard output. Raises SaveError if it cannot be written to, BrokenPipeError if its reader has gone."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        yield sys.stdout
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile
        sys.stdout = None  # otherwise Python tries again at exit, complains, and exits with 120
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise SaveError(f"cannot write to standard output: {reason.lower()}; the output is lost") from None


def forget_stdout() -> None:
    """Write no more to standard output; what is buffered for it goes to the null device, not into an error at exit."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    sys.stdout = None


class Messages(io.TextIOBase):
    """A stream for messages, whose failures do not stop the work; `refused` tells whether one occurred."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.refused = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self.stream is not None and self.stream.isatty()
        except ValueError:
            return False

    def write(self, text: str) -> int:
        """Write the text, unless an earlier one was refused."""
        self._try(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._try(lambda stream: stream.flush())

    def _try(self, call: Callable[[TextIO], object]) -> None:
        if self.stream is None or self.refused:
            return
        try:
            call(self.stream)
        except (OSError, ValueError):
            self.refused = True


@contextmanager
def messages() -> Iterator[Messages]:
    """Standard error; after a first refusal nothing is written to it any more."""
    stream = Messages(sys.stderr)
    try:
        yield stream
    finally:
        if stream.refused:
            sys.stderr = None
