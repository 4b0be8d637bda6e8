"""What ranks tell each other besides numbers: texts, files, failures. No pickle is sent.

Every rank calls these functions, in the same order.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
import torch.distributed as dist

from fewshot_sdk import errors
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError, FewshotError, listed
from fewshot_sdk.storage.files import sha256

T = TypeVar("T")
_LONGEST_PAUSE = 2.0  # seconds between two meetings of ranks that wait for one another


def texts(workers: Workers, mine: str) -> list[str]:
    """The texts of all ranks, in their order."""
    if workers.size == 1:
        return [mine]
    data = mine.encode()
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(workers.size)]
    dist.all_gather(lengths, torch.tensor([len(data)]))
    longest = max(int(length) for length in lengths)
    padded = torch.frombuffer(bytearray(data.ljust(max(longest, 1), b" ")), dtype=torch.uint8)
    rows = [torch.empty_like(padded) for _ in range(workers.size)]
    dist.all_gather(rows, padded)
    return [row.numpy().tobytes()[: int(n)].decode() for row, n in zip(rows, lengths, strict=True)]


def sent(workers: Workers, data: bytes, source: int) -> bytes:
    """The bytes that rank `source` has; those of the others do not matter."""
    if workers.size == 1:
        return data
    length = torch.tensor([len(data)])
    dist.broadcast(length, source)
    mine = data if workers.rank == source else bytes(int(length))
    buffer = torch.frombuffer(bytearray(mine or b" "), dtype=torch.uint8)
    dist.broadcast(buffer, source)
    return buffer.numpy().tobytes()[: int(length)]


def agreed(workers: Workers, work: Callable[[], T]) -> T:
    """What `work` returns in this rank, once it has ended in all. A FewshotError of any rank is raised in every one."""
    result, failure = _tried(work)
    _raise_first(workers, failure)
    return result[0]


def awaited(workers: Workers, work: Callable[[], T]) -> T:
    """The same for work that takes long in some ranks: all of them meet every few seconds, so that none waits for one
    that is lost. `work` runs in a thread of its own.
    """
    ended: list[tuple[list[T], BaseException | None]] = []

    def run() -> None:
        try:
            ended.append(_tried(work))
        except BaseException as error:  # raised below, where the rank can end by it
            ended.append(([], error))

    thread, pause = threading.Thread(target=run, daemon=True), 0.01
    thread.start()
    while True:
        thread.join(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        if not workers.any(thread.is_alive()):
            break
    result, failure = ended[0]
    if failure is not None and not isinstance(failure, FewshotError):
        raise failure
    _raise_first(workers, failure)
    return result[0]


def check_alike(workers: Workers, settings: Mapping[str, object]) -> None:
    """Raises ConfigError, naming a rank and what it has, unless the settings of all ranks are those of the first."""
    mine = json.dumps({name: str(value) for name, value in sorted(settings.items())})
    if len(set(texts(workers, sha256(mine.encode())))) == 1:
        return
    first, *others = (json.loads(text) for text in texts(workers, mine))
    for rank, other in enumerate(others, 1):
        differing = [
            f"{name} {other.get(name, 'unset')}, where rank 0 has {first.get(name, 'unset')}"
            for name in sorted(first.keys() | other.keys())
            if first.get(name) != other.get(name)
        ]
        if differing:
            raise ConfigError(
                f"rank {rank} has {listed(differing)}; start all ranks with the same options, data and versions, on "
                "machines of one kind"
            )


def _tried(work: Callable[[], T]) -> tuple[list[T], FewshotError | None]:
    try:
        return [work()], None
    except FewshotError as error:
        return [], error


def _raise_first(workers: Workers, mine: FewshotError | None) -> None:
    """Raise the first rank's failure, if any has failed; it names the rank unless all have failed alike."""
    failure = [] if mine is None else [type(mine).__name__, *map(str, mine.args)]
    all_failures: list[list[str]] = [json.loads(text) for text in texts(workers, json.dumps(failure))]
    rank = next((rank for rank, found in enumerate(all_failures) if found), None)
    if rank is None:
        return
    if mine is not None and workers.size == 1:
        raise mine
    kind, *messages = all_failures[rank]
    if any(found != all_failures[rank] for found in all_failures):
        messages = [f"rank {rank}: {message}" for message in messages]
    raise getattr(errors, kind, FewshotError)(*messages)
