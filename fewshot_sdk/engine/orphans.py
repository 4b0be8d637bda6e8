"""Worker processes end when their parent does, however it ends; so do ranks with their torchrun."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

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
