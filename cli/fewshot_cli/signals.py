"""Ctrl-C and SIGTERM during long work: finish the step in hand, save, leave."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fewshot_cli.output import say


@contextmanager
def stoppable() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM is added to; a second one stops at once."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        say("\nstopping after this step (once more to stop at once)")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
