"""Several processes that share the tasks of each outer step and end up with the same weights.

Every process holds everything; process i modulo their number does task i of a step, and the results
are collected or summed in task order. So the bits do not depend on the number of processes.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from fewshot_sdk.engine.board import Board
from fewshot_sdk.engine.compiler import library
from fewshot_sdk.engine.orphans import end_with_parent, interrupts_waiting, take_interrupts
from fewshot_sdk.engine.processors import cores_of
from fewshot_sdk.errors import FewshotError, WorkersError, WorkersStopped
from fewshot_sdk.storage.drafts import scratch

R = TypeVar("R")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, <malloc.h>


@dataclass(frozen=True, kw_only=True)
class Workers:
    """This process's rank among `size` workers; alone by default.

    leads: whether it is the first on its machine. threads: how many each of its tasks may take at least.
    device: a GPU through which `total` exchanges, by NCCL; None: the CPU, by gloo.
    board: memory through which `total` exchanges instead, if all workers are on this machine.
    """

    rank: int = 0
    size: int = 1
    leads: bool = True
    threads: int = 1
    device: torch.device | None = None
    board: Board | None = None

    def share(self, n: int) -> range:
        """The numbers of those of n tasks that this process does."""
        return range(self.rank, n, self.size)

    def cores(self, n: int) -> Iterator[int]:
        """The number of cores for each of this process's tasks."""
        return (max(cores_of(i, n, self.size), self.threads) for i in self.share(n))

    def gather(self, mine: list[Tensor], n: int) -> list[Tensor]:
        """All workers' results in task order; `mine`: the results of `share(n)`, all of the same shape (length,)."""
        if self.size == 1:
            return mine
        rounds = -(-n // self.size)
        sent = torch.stack(mine + [torch.zeros_like(mine[0])] * (rounds - len(mine)))
        received = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(received, sent)
        return [received[i % self.size][i // self.size] for i in range(n)]

    def total(self, mine: Iterable[Tensor], n: int) -> Tensor:
        """The sum of all workers' n results, added in task order; `mine`: as in `gather`.

        Without a board, each process receives its slice of the last results while `mine` computes the next; it adds its
        slices up and sends their sum to all.
        """
        if self.size == 1:
            return _added(mine)
        results: Iterator[Tensor] = iter(mine)
        if self.board and n >= self.size:
            one = next(results)
            results = chain([one], results)
            if (rows := self.board.rows(n, one)) is not None:
                for i, vector in zip(self.share(n), results, strict=True):
                    rows[i] = vector
                self.board.meet()
                return _added(rows)
        sent, received, pending = [], [], []
        length = part = 0
        for first in range(0, n, self.size):
            counts = [int(first + rank < n) for rank in range(self.size)]
            if counts[self.rank]:
                result = next(results)
                length, part = len(result), -(-len(result) // self.size)
                sent.append(F.pad(result.to(self.device), (0, part * self.size - length)).view(self.size, part))
            else:
                sent.append(torch.empty(0, part, device=self.device))
            received.append(torch.empty(sum(counts), part, device=self.device))
            shares = counts, [counts[self.rank]] * self.size
            pending.append(dist.all_to_all_single(received[-1], sent[-1], *shares, async_op=True))
        for exchange in pending:
            exchange.wait()
        sums = torch.empty(self.size * part, device=self.device)
        dist.all_to_all_single(sums, _added(torch.cat(received)).repeat(self.size))
        whole: Tensor = sums[:length].cpu()
        return whole

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all get the same answer."""
        if self.size == 1:
            return flag
        sums = torch.tensor([int(flag)])
        dist.all_reduce(sums)
        return bool(sums.item())


def run_workers(size: int, work: Callable[..., R], *arguments: object) -> R:
    """Run `work(workers, *arguments)` in `size` new processes on this machine; the result of the first one.

    `work` is a function of an importable module; arguments and result are pickled.
    SIGINT, SIGTERM and SIGHUP to this process reach all workers; once they have ended, WorkersStopped is raised. If
    this process is killed, so are they.
    Raises the FewshotError that `work` raises in any of them; WorkersError if a worker dies, or if they cannot
    communicate over the loopback network or have no shared memory.
    Source: torch.distributed.launcher, the code behind torchrun.
    """
    if lacking := workers_lack():
        raise WorkersError(f"workers need {lacking}; use --workers 1")
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for noisy in ("distributed.elastic.agent.server.api", "distributed.elastic.multiprocessing.api"):
        logging.getLogger(f"torch.{noisy}").setLevel(logging.CRITICAL)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.CRITICAL)
    library()  # compiled here once, not by each worker: on a busy machine one may give up, and go on in PyTorch
    ignored = signal.getsignal(getattr(signal, "SIGHUP", signal.SIGTERM)) == signal.SIG_IGN  # as under nohup
    try:
        with interrupts_waiting(), scratch() as folder:
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
                logs_specs=DefaultLogsSpecs(str(folder)),  # a worker that fails leaves its reason there
                signals_to_handle="SIGTERM,SIGINT,SIGQUIT" + ("" if ignored else ",SIGHUP"),
            )
            outcomes: dict[int, tuple[R | None, FewshotError | None]] = elastic_launch(config, _run_worker)(
                work, arguments
            )
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        why = _reason(failure.message)
        raise WorkersError(
            f"worker {rank} of {size} died ({why}); run it again, with --resume if anything was saved"
        ) from None
    except SignalException as stop:
        raise WorkersStopped(int(stop.sigval)) from None
    for _, known in outcomes.values():
        if known:
            raise known
    return cast(R, outcomes[0][0])


def _reason(message: object) -> str:
    """What ended a worker, in one line; torch's record of an exception holds its whole traceback, too."""
    text = message.get("message", message) if isinstance(message, dict) else message
    return str(text).strip().splitlines()[0] if str(text).strip() else "no reason given"


def workers_lack() -> str | None:
    """What this machine does not give to processes that work together, and why; None if nothing is missing."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=5),
        ):
            pass
    except OSError:
        return "127.0.0.1 to communicate, which does not work on this machine"
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        return f"shared memory (/dev/shm), which cannot be used: {(error.strerror or str(error)).lower()}"
    try:
        tempfile.gettempdir()
    except OSError:
        return "a temporary folder, and none can be written to: TMPDIR names one"
    return None


def _added(rows: Iterable[Tensor]) -> Tensor:
    """The sum of the rows, added one after the other."""
    first, *others = rows
    total = first.clone()
    for row in others:
        total.add_(row)
    return total


def peak_memory(workers: Workers) -> float | None:
    """The peak resident sets of all workers so far, summed, in MB; None where the system does not report them.

    Every worker must call it; all get the same number.
    """
    if sys.platform == "win32":
        return None
    from resource import RUSAGE_SELF, getrusage

    units = 10**6 if sys.platform == "darwin" else 10**6 / 1024  # bytes there, KiB elsewhere
    mine = torch.tensor([getrusage(RUSAGE_SELF).ru_maxrss / units], dtype=torch.float64)
    return round(sum(float(each) for each in workers.gather([mine], workers.size)), 1)


def keep_freed_memory() -> None:
    """Make this process reuse freed memory instead of returning it to the system; only with glibc's allocator.

    Training allocates and frees tensors of a megabyte all the time; once returned, each costs a page fault for every
    4 KiB again. Call it only in processes of our own, because it affects the whole process.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_TRIM_THRESHOLD, 2**30)
        libc.mallopt(_MMAP_THRESHOLD, 2**25)


def _run_worker(work: Callable[..., R], arguments: tuple[object, ...]) -> tuple[R | None, FewshotError | None]:
    """The work of one worker; a known failure is returned, not raised."""
    end_with_parent()
    take_interrupts()
    keep_freed_memory()
    dist.init_process_group("gloo")
    try:
        dist.barrier()  # a worker that left at once would close connections that others are still making
        rank = dist.get_rank()
        size = dist.get_world_size()
        workers = Workers(rank=rank, size=size, leads=rank == 0, board=Board(rank, size))
        return work(workers, *arguments), None
    except FewshotError as error:
        return None, error
    finally:
        dist.destroy_process_group()
