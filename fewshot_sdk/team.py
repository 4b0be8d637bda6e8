"""Several processes that share the tasks of each outer step and end up with the same weights.

Every process holds everything; task i of a step is done by process i modulo their number, and the
results are handed round in task order. So the bits do not depend on how many there are.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fewshot_sdk.errors import TeamError, TeamStopped

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process's place among `size`; alone by default."""

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> range:
        """Which of n tasks are this process's."""
        return range(self.rank, n, self.size)

    def gather(self, mine: list[Tensor], n: int) -> list[Tensor]:
        """Everybody's results in task order: `mine` are those of `share(n)`, all (length,) and alike."""
        if self.size == 1:
            return mine
        rounds = -(-n // self.size)
        sent = torch.stack(mine + [torch.zeros_like(mine[0])] * (rounds - len(mine)))
        received = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(received, sent)
        return [received[i % self.size][i // self.size] for i in range(n)]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all of them get the same answer."""
        if self.size == 1:
            return flag
        sums = torch.tensor([int(flag)])
        dist.all_reduce(sums)
        return bool(sums.item())


def run_team(size: int, work: Callable[..., R], *arguments: object) -> R:
    """Run `work(team, *arguments)` in `size` new processes on this machine; the first one's result.

    `work` is a function of an importable module; arguments and result are pickled.
    SIGINT and SIGTERM to this process reach them all; when they have left, TeamStopped is raised.
    Raises TeamError if a process dies, or if there is no loopback network for them to talk over.
    Source: torch.distributed.launcher, the code behind torchrun.
    """
    if not loopback_works():
        raise TeamError("workers talk over 127.0.0.1, which does not work on this machine; use --workers 1")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for chatty in ("distributed.elastic.agent.server.api", "distributed.elastic.multiprocessing.api"):
        logging.getLogger(f"torch.{chatty}").setLevel(logging.CRITICAL)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.CRITICAL)
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
    )
    try:
        results: dict[int, R] = elastic_launch(config, _member)(work, arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise TeamError(
            f"worker {rank} of {size} died ({failure.message}); --resume goes on from the last checkpoint"
        ) from None
    except SignalException as stop:
        raise TeamStopped(int(stop.sigval)) from None
    return results[0]


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


def _member(work: Callable[..., R], arguments: tuple[object, ...]) -> R:
    dist.init_process_group("gloo")
    try:
        return work(Team(rank=dist.get_rank(), size=dist.get_world_size()), *arguments)
    finally:
        dist.destroy_process_group()
