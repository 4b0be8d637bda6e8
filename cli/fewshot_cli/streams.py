"""Standard output and standard error where they may be closed, full, or read by nobody."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from fewshot_sdk.errors import SaveError


def open_closed_streams() -> None:
    """Puts the null device where a standard stream is closed, lest a file takes its number and what is said there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one


@contextmanager
def data() -> Iterator[TextIO]:
    """Standard output. Raises SaveError if it cannot be written, BrokenPipeError if nobody reads on."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        yield sys.stdout
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # a ValueError if it was closed meanwhile
        sys.stdout = None  # else Python tries again as it ends, complains, and exits with 120
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise SaveError(f"cannot write to standard output: {reason.lower()}; what it should hold is lost") from None


class Messages(io.TextIOBase):
    """A stream for people, whose failures end no work: `refused` says whether there was one."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.refused = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self.stream is not None and self.stream.isatty()
        except ValueError:
            return False

    def write(self, text: str) -> int:
        """Hands on the text, unless one was refused before."""
        self._try(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hands on what is held back."""
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
    """Standard error; after a first refusal nothing goes there any more."""
    stream = Messages(sys.stderr)
    try:
        yield stream
    finally:
        if stream.refused:
            sys.stderr = None
