"""A process that works for another one ends with it, however that one ended."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl, <sys/prctl.h>


def end_with_parent() -> None:
    """Tie this process, one that multiprocessing started, to its parent: it is killed as soon as that is gone.

    Linux kills it in the same moment, whatever it does. Elsewhere, and where that is forbidden, a thread waits for the
    end of the pipe that the parent holds open. A parent that has ended before is noticed here, as the pipe has.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if not parent.is_alive():
        os._exit(1)

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
