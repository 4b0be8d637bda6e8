"""The processor's cores, and how tasks are divided among them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

R = TypeVar("R")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def usable_gpu(trial: Callable[[torch.device], object] | None = None) -> tuple[torch.device | None, str]:
    """The GPU that PyTorch finds, if a first computation on it and `trial` succeed; else None, and why not in one line.

    trial: something that takes as much memory as the work to come; its failure is a reason, too.
    """
    import torch

    if not torch.cuda.is_available():
        return None, "PyTorch finds no GPU here"
    device = torch.device("cuda")
    try:
        (torch.ones(2, device=device) + 1).sum().item()
        if trial is not None:
            trial(device)
    except (RuntimeError, AssertionError) as error:  # an old driver, another build of PyTorch, no memory left
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return None, f"PyTorch finds a GPU and cannot use it ({reason})"
    return device, ""


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
