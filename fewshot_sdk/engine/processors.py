"""The processor's cores, and how tasks are divided among them."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

R = TypeVar("R")


_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """Number of cores that this process may use, at least 1: those it may run on, or as many as its quota is worth."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), _quota(_CGROUPS, _OWN_CGROUP))))


@cache
def _quota(groups: Path, own: Path) -> float:
    """The processor time a second that Linux's control groups (version 2) grant, in cores; infinite without a limit.

    That is the least of the group's own limit and of those around it, as containers set it: `docker run --cpus 2`.
    groups: the root of all groups. own: the file that names the group of this process.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return math.inf
    inside = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = groups / inside
    return min(_limit(folder / "cpu.max") for folder in (group, *group.parents) if folder.is_relative_to(groups))


def _limit(file: Path) -> float:
    """The cores that a file `cpu.max` grants, such as 1.5 for `150000 100000`; infinite for `max` or no such file."""
    try:
        time, period = file.read_text(encoding="utf-8").split()
        return math.inf if time == "max" else int(time) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


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
