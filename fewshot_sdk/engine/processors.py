"""The processor's cores, and how tasks are divided among them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

R = TypeVar("R")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16; if not, PyTorch takes ten times as long as in float32."""
    import torch

    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def cores_of(task: int, n: int, size: int) -> int:
    """Number of cores, out of `size`, for one of n tasks: one, and in the last round also the idle ones."""
    return size // min(n - task + task % size, size)


def side_by_side(work: Sequence[Callable[[int], R]]) -> Iterator[R]:
    """Results of the functions in `work`, in order, from one thread per core; the bits are those of a single thread.

    Each function is called with the number of cores to use.
    """
    size, n = cores(), len(work)
    pool = ThreadPoolExecutor(size)
    try:
        yield from pool.map(lambda i: work[i](cores_of(i, n, size)), range(n))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nothing new begins
