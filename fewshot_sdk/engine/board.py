"""Memory that the workers of one machine share, for the vectors of every outer step.

Through sockets messages wait for one another, and threads of gloo to be woken, in every step: see benchmarks/README.md.
"""

from __future__ import annotations

import mmap
import os
import platform
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from fewshot_sdk.errors import WorkersError

LARGEST = 2**28  # bytes; what computes longer vectors takes so long that sockets do not matter
PAUSE, LONGEST = 5e-5, 1800.0  # seconds; a waiting worker leaves its core to threads of the others
LOOK = 0.1  # seconds between two looks whether the others live
_APART, _PROCESS = 8, 1  # numbers of 8 bytes in a cache line, and which of a worker's is its process


class Board:
    """Rows of numbers that all workers of a machine write and read. Each worker makes one, and all use it alike."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size
        self._rows: dict[tuple[int, int, torch.dtype], Tensor | None] = {}
        self._turns = 0
        self._meetings: Tensor | None = None  # of each worker, a cache line apart

    def rows(self, n: int, like: Tensor) -> Tensor | None:
        """Memory for n vectors like that one, (n, length); None where the system cannot share it.

        Two parts take turns, so that a worker may read one after `meet` while another already writes the next.
        """
        key = n, len(like), like.dtype
        if key not in self._rows:
            if self._meetings is None:
                self._meetings = _shared(self._rank, _APART * self._size, torch.int64)
                if self._meetings is not None:
                    self._meetings[_APART * self._rank + _PROCESS] = os.getpid()
            self._rows[key] = _shared(self._rank, 2 * n * len(like), like.dtype)
        self._turns += 1
        found = self._rows[key]
        return None if found is None or self._meetings is None else found.view(2, n, len(like))[self._turns % 2]

    def meet(self) -> None:
        """Return once all workers have called this: what each wrote to its rows before, all can read.

        Raises WorkersError if one does not come for half an hour, RuntimeError, as PyTorch's exchanges do, if one has
        died.
        """
        assert self._meetings is not None
        numbers = self._meetings.numpy()
        meetings, processes = numbers[::_APART], numbers[_PROCESS::_APART]
        meetings[self._rank] += 1
        began = looked = time.monotonic()
        while meetings.min() < meetings[self._rank]:
            time.sleep(PAUSE)
            now = time.monotonic()
            if now - looked > LOOK:
                looked = now
                if not all(_lives(process) for process in processes.tolist()):
                    raise RuntimeError("another worker has died")
            if now - began > LONGEST:
                raise WorkersError(
                    f"a worker has not finished its tasks for {LONGEST / 60:.0f} minutes; see why it hangs"
                )


def _shared(rank: int, length: int, dtype: torch.dtype) -> Tensor | None:
    """Memory of the first worker, which has no name and is gone with the last one; None if any cannot reach it."""
    size = length * dtype.itemsize
    own = _reserved(size) if rank == 0 else None
    place = torch.tensor([0, 0] if own is None else [os.getpid(), own])
    dist.broadcast(place, 0)
    process, descriptor = place.tolist()
    found = _mapped(process, descriptor, size) if process else None
    reached = torch.tensor([int(found is not None)])
    dist.all_reduce(reached, dist.ReduceOp.MIN)
    if own is not None:
        os.close(own)
    return torch.frombuffer(found, dtype=dtype) if found is not None and reached else None


def _reserved(size: int) -> int | None:
    """The descriptor of so many bytes of memory; None where there are too many, or no such memory."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or not 0 < size <= LARGEST:
        return None  # other processors may show `meet` to a worker before the rows that were written before it
    try:
        descriptor = os.memfd_create("fewshot")
    except OSError:
        return None
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _lives(process: int) -> bool:
    """Whether there is such a process; 0 for one that has not said its number yet."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _mapped(process: int, descriptor: int, size: int) -> mmap.mmap | None:
    try:
        with Path(f"/proc/{process}/fd/{descriptor}").open("r+b", buffering=0) as file:
            return mmap.mmap(file.fileno(), size)
    except (OSError, ValueError):  # no /proc, or memory that ends before `size`
        return None
