"""Worker processes end when their parent does, however it ends, and see Ctrl-C only once they have started."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl, <sys/prctl.h>


def end_with_parent() -> None:
    """Tie this process, started by multiprocessing, to its parent: it is killed as soon as the parent is gone.

    Linux kills it at once, whatever it is doing. Elsewhere, or where that is forbidden, a thread waits for the pipe
    that the parent holds open to close. A parent that has already ended is noticed immediately, by the closed pipe.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if not parent.is_alive():
        os._exit(1)

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


def stop_with_parent() -> None:
    """Have Linux send SIGTERM to this process, whoever started it, as soon as its parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


@contextmanager
def interrupts_waiting() -> Iterator[None]:
    """Processes started meanwhile do not see Ctrl-C until `take_interrupts`; this one sees it, by a thread.

    Otherwise each of them would end in a traceback out of whatever it is importing.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # its start unblocks SIGINT
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        ended.set()


def take_interrupts() -> None:
    """End this process if Ctrl-C came while it started; from now on it arrives."""
    if sys.platform != "win32":
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        except KeyboardInterrupt:  # it came before
            os._exit(128 + signal.SIGINT)
