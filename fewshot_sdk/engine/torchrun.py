"""A process that torchrun started: one rank of a group of processes, on one machine or several."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import DistError, DistStoreError
from torch.distributed.distributed_c10d import PrefixStore, Store

from fewshot_sdk.engine import processors
from fewshot_sdk.engine.orphans import stop_with_parent
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError, WorkersError

LOST_AFTER = "FEWSHOT_LOST_AFTER"  # seconds without a word from another rank after which it counts as lost
DEFAULT_LOST_AFTER = 300
INTERFACE = "GLOO_SOCKET_IFNAME"
_GET_ADDRESS = 0x8915  # SIOCGIFADDR of ioctl, <linux/sockios.h>


def launched() -> bool:
    """Whether torchrun started this process."""
    return {"TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"} <= os.environ.keys()


def rank() -> int:
    """This process's rank by torchrun's variables; 0 if it did not start this process."""
    return int(os.environ["RANK"]) if launched() else 0


def job() -> str:
    """The name that `--rdzv-id` gave to all of a job's starts; empty if it gave none."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return "" if name == "none" else name


def restarted() -> bool:
    """Whether torchrun starts this rank for the second time or a later one."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined() -> Iterator[Workers]:
    """This process as one of the ranks that torchrun started, connected with the others.

    Ranks exchange CPU tensors by gloo and, if each has a GPU of its own, those of GPUs by NCCL.
    Raises ConfigError if FEWSHOT_LOST_AFTER is not a number of seconds; WorkersError if the others cannot be reached,
    or once the connection to one of them breaks, or none has come for that long.
    """
    stop_with_parent()  # else it would go on, with the others, when its torchrun is killed
    patience = _patience()
    local, ranks = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpu = torch.cuda.is_available() and dist.is_nccl_available() and ranks <= torch.cuda.device_count()
    if gpu:
        torch.cuda.set_device(local)
    if INTERFACE not in os.environ and (name := interface_towards(os.environ.get("MASTER_ADDR", ""))):
        os.environ[INTERFACE] = name
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=_store(timedelta(seconds=patience)),
            rank=rank(),
            world_size=int(os.environ["WORLD_SIZE"]),
            timeout=timedelta(seconds=patience),
        )
        dist.all_reduce(torch.zeros(1))  # who left at once would close connections that others are still making
        yield Workers(
            rank=dist.get_rank(),
            size=dist.get_world_size(),
            leads=local == 0,
            threads=max(processors.cores() // ranks, 1),
            device=torch.device("cuda", local) if gpu else None,
        )
    except (DistError, RuntimeError) as error:
        if not isinstance(error, DistError) and not _is_of_the_network(error):
            raise
        raise WorkersError(
            f"rank {rank()} lost the connection to another one ({_reason(error)}); torchrun starts all of them "
            "again as often as --max-restarts says, and they continue; else run it again, with --resume"
        ) from None
    finally:
        with suppress(RuntimeError, AssertionError, ValueError):
            dist.destroy_process_group()


def _store(patience: timedelta) -> Store:
    """The store of this start of the ranks, at torchrun's address.

    torchrun's own store outlives the ranks, with the addresses of those that are no more, and its count of restarts is
    not the same on all machines (https://github.com/pytorch/pytorch/issues/135712). So the ranks draw marks, and begin
    once the first one has found those of all that live now.
    """
    mine, size = rank(), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=mine == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        timeout=patience,
        multi_tenant=True,
    )
    until = time.monotonic() + patience.total_seconds()
    mark = secrets.token_hex(8)
    store.set(f"fewshot/mark/{mine}", mark)
    while time.monotonic() < until:
        if mine == 0:
            store.set("fewshot/marks", " ".join(_read(store, f"fewshot/mark/{other}") for other in range(size)))
        marks = _read(store, "fewshot/marks")
        if marks.split(" ")[mine : mine + 1] == [mark]:
            store.set(f"fewshot/seen/{mine}", marks)
            if mine == 0 and all(_read(store, f"fewshot/seen/{other}") == marks for other in range(size)):
                store.set("fewshot/begin", marks)
            if _read(store, "fewshot/begin") == marks:
                return PrefixStore(f"fewshot/{marks}", store)
        time.sleep(0.02)
    raise DistStoreError(f"not all of {size} ranks have come within {patience.total_seconds():.0f} seconds")


def _read(store: Store, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""


def interface_towards(host: str) -> str | None:
    """The network interface by which `host` is reached; None where that cannot be told, which leaves it to gloo.

    gloo takes the interface of this machine's own name, which may be the loopback, or none.
    """
    if sys.platform != "linux" or not host:
        return None
    import fcntl

    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((host, 9))  # nothing is sent
        ours = asking.getsockname()[0]
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(asking, _GET_ADDRESS, name.encode().ljust(256, b"\0"))
                if socket.inet_ntoa(answer[20:24]) == ours:
                    return name
    return None


def _patience() -> float:
    text = os.environ.get(LOST_AFTER, str(DEFAULT_LOST_AFTER))
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise ConfigError(f"{LOST_AFTER}: expected a number of seconds, found {text!r}")
    return float(text)


def _is_of_the_network(error: RuntimeError) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("gloo", "connect", "timed out", "nccl", "tcpstore", "socket"))


def _reason(error: Exception) -> str:
    """What broke, in a few words: the first sentence without the place in the source."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"\[/[^]]*\] *", "", line).partition(". ")[0].rstrip(".")[:200]
