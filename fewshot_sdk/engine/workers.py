"""Several processes that share the tasks of each outer step and end up with the same weights.

Every process holds everything; task i of a step is done by process i modulo their number, and the
results are put, or added up, in task order. So the bits do not depend on how many there are.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from fewshot_sdk.engine.orphans import end_with_parent
from fewshot_sdk.engine.processors import cores_of
from fewshot_sdk.errors import FewshotError, WorkersError, WorkersStopped

R = TypeVar("R")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, <malloc.h>


@dataclass(frozen=True, kw_only=True)
class Workers:
    """This process's place among `size`; alone by default."""

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> range:
        """Which of n tasks are this process's."""
        return range(self.rank, n, self.size)

    def cores(self, n: int) -> Iterator[int]:
        """For each of this process's tasks, on how many cores to do it."""
        return (cores_of(i, n, self.size) for i in self.share(n))

    def gather(self, mine: list[Tensor], n: int) -> list[Tensor]:
        """Everybody's results in task order: `mine` are those of `share(n)`, all (length,) and alike."""
        if self.size == 1:
            return mine
        rounds = -(-n // self.size)
        sent = torch.stack(mine + [torch.zeros_like(mine[0])] * (rounds - len(mine)))
        received = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(received, sent)
        return [received[i % self.size][i // self.size] for i in range(n)]

    def total(self, mine: Iterable[Tensor], n: int) -> Tensor:
        """The sum of everybody's n results, in task order: `mine` are those of `share(n)`, all (length,) and alike.

        Each process is sent its part of every result, while `mine` makes the next one; adds that up, and hands
        the sum round.
        """
        if self.size == 1:
            return _added(mine)
        results, sent, received, under_way = iter(mine), [], [], []
        length = part = 0
        for first in range(0, n, self.size):
            there = [int(first + rank < n) for rank in range(self.size)]
            if there[self.rank]:
                result = next(results)
                length, part = len(result), -(-len(result) // self.size)
                sent.append(F.pad(result, (0, part * self.size - length)).view(self.size, part))
            else:
                sent.append(torch.empty(0, part))
            received.append(torch.empty(sum(there), part))
            shares = there, [there[self.rank]] * self.size
            under_way.append(dist.all_to_all_single(received[-1], sent[-1], *shares, async_op=True))
        for exchange in under_way:
            exchange.wait()
        sums = torch.empty(self.size * part)
        dist.all_to_all_single(sums, _added(torch.cat(received)).repeat(self.size))
        whole: Tensor = sums[:length]
        return whole

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all of them get the same answer."""
        if self.size == 1:
            return flag
        sums = torch.tensor([int(flag)])
        dist.all_reduce(sums)
        return bool(sums.item())


def run_workers(size: int, work: Callable[..., R], *arguments: object) -> R:
    """Run `work(team, *arguments)` in `size` new processes on this machine; the first one's result.

    `work` is a function of an importable module; arguments and result are pickled.
    SIGINT, SIGTERM and SIGHUP to this process reach them all; when they have left, WorkersStopped is raised. If this
    process is killed, so are they.
    Raises the FewshotError that `work` raises in any of them, WorkersError if a process dies, or if there is no
    loopback network for them to talk over.
    Source: torch.distributed.launcher, the code behind torchrun.
    """
    if not loopback_works():
        raise WorkersError("workers talk over 127.0.0.1, which does not work on this machine; use --workers 1")
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for chatty in ("distributed.elastic.agent.server.api", "distributed.elastic.multiprocessing.api"):
        logging.getLogger(f"torch.{chatty}").setLevel(logging.CRITICAL)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.CRITICAL)
    ignored = signal.getsignal(getattr(signal, "SIGHUP", signal.SIGTERM)) == signal.SIG_IGN  # as under nohup
    try:
        with tempfile.TemporaryDirectory(prefix="fewshot-", ignore_cleanup_errors=True) as folder:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=size,
                run_id=f"fewshot-{os.getpid()}",
                rdzv_backend="c10d",
                rdzv_endpoint="127.0.0.1:0",
                local_addr="127.0.0.1",
                max_restarts=0,
                monitor_interval=0.1,
                start_method="spawn",
                logs_specs=DefaultLogsSpecs(folder),  # a worker that fails leaves its reason there
                signals_to_handle="SIGTERM,SIGINT,SIGQUIT" + ("" if ignored else ",SIGHUP"),
            )
            outcomes: dict[int, tuple[R | None, FewshotError | None]] = elastic_launch(config, _member)(work, arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise WorkersError(
            f"worker {rank} of {size} died ({failure.message}); run it again, with --resume where something was kept"
        ) from None
    except SignalException as stop:
        raise WorkersStopped(int(stop.sigval)) from None
    for _, known in outcomes.values():
        if known:
            raise known
    return cast(R, outcomes[0][0])


def loopback_works() -> bool:
    """Whether processes of this machine can reach each other over 127.0.0.1."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=5),
        ):
            return True
    except OSError:
        return False


def _added(rows: Iterable[Tensor]) -> Tensor:
    """Their sum, one after the other."""
    first, *others = rows
    total = first.clone()
    for row in others:
        total.add_(row)
    return total


def peak_memory(workers: Workers) -> float | None:
    """The largest resident sets so far of a team's processes, added up, in MB; None where the system does not tell.

    Every process of the team calls it, and gets the same.
    """
    if sys.platform == "win32":
        return None
    from resource import RUSAGE_SELF, getrusage

    units = 10**6 if sys.platform == "darwin" else 10**6 / 1024  # bytes there, KiB elsewhere
    mine = torch.tensor([getrusage(RUSAGE_SELF).ru_maxrss / units], dtype=torch.float64)
    return round(sum(float(each) for each in workers.gather([mine], workers.size)), 1)


def keep_freed_memory() -> None:
    """Let this process's memory, once freed, be used again rather than returned to the system.

    Training makes and frees tensors of a megabyte all the time: given back, each costs a page fault for every
    4 KiB again. Only glibc's allocator is told so; for processes of our own, as it holds for all of a process.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_TRIM_THRESHOLD, 2**30)
        libc.mallopt(_MMAP_THRESHOLD, 2**25)


def _member(work: Callable[..., R], arguments: tuple[object, ...]) -> tuple[R | None, FewshotError | None]:
    """In one of the processes: a known failure is sent back, not raised."""
    end_with_parent()
    keep_freed_memory()
    dist.init_process_group("gloo")
    try:
        return work(Workers(rank=dist.get_rank(), size=dist.get_world_size()), *arguments), None
    except FewshotError as error:
        return None, error
    finally:
        dist.destroy_process_group()
