"""Ctrl-C and SIGTERM during long work: finish the step in hand, save, leave."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fewshot_cli.output import say


@contextmanager
def stoppable(*, patient: bool = False) -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM are added to. A second one stops at once.

    patient: not even a second one does, and nothing is said: for workers, which get the terminal's
    signal and their parent's.
    """
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received and not patient:
            raise KeyboardInterrupt
        received.append(number)
        if not patient:
            say("\nstopping after this step (once more to stop at once)")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
