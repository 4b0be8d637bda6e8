"""Ctrl-C, SIGTERM and a lost terminal during long work: finish the current step, save, exit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fewshot_cli.output import say


@contextmanager
def stoppable(*, patient: bool = False) -> Iterator[list[int]]:
    """A list to which SIGINT, SIGTERM and SIGHUP are added as they arrive; a second signal stops at once.

    SIGHUP, sent when the terminal is gone, stays ignored where it already is, as under nohup.

    patient: a second signal does not stop either, and nothing is printed: for workers, which get the
    terminal's signal and their parent's.
    """
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received and not patient:
            raise KeyboardInterrupt
        received.append(number)
        if not patient:
            say("\nstopping after this step; interrupt again to stop at once")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
