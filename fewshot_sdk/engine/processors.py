"""Processors, and which tasks they take."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

R = TypeVar("R")


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has products of bfloat16; without them PyTorch takes ten times as long as in float32."""
    import torch

    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def cores_of(task: int, n: int, size: int) -> int:
    """On how many of `size` cores to do one of n tasks: one, but in a last round also those left idle."""
    return size // min(n - task + task % size, size)


def side_by_side(work: Sequence[Callable[[int], R]]) -> Iterator[R]:
    """What each piece of work gives, in order, by a thread for each processor; the bits are those of one thread.

    A piece is told on how many cores to do it.
    """
    size, n = cores(), len(work)
    pool = ThreadPoolExecutor(size)
    try:
        yield from pool.map(lambda i: work[i](cores_of(i, n, size)), range(n))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C no more than what has begun
