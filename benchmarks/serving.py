"""What `fewshot serve` adds to onnxruntime for one client, and what many connections at once get from it.

    python -m benchmarks.serving [--preset omniglot] [--side 105] [--requests N] [--json]
        [--connections N] [--seconds S] [--client tritonclient|kserve|plain]

The server is a process of its own on the loopback; it serves a classifier of random weights, whose speed is that of any
other. First one client asks it on one connection for one picture of noise: as a binary tensor, as JSON, and as a PNG
file; between these, in another process, onnxruntime runs the same graph on the same picture in a loop. Overhead is the
difference of the medians. Then `--connections` ask at once, each again as soon as it is answered, through the client
library named by `--client`, which must be installed (`pip install 'tritonclient[http]'` or `kserve`), or without one.
Last, the server is told to end (SIGTERM) amid these requests: those that it had not answered by then are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.inference import classifier_of
from benchmarks.processes import Child, ProcessFailed
from benchmarks.serving_clients import CLIENTS, UNCONNECTED, Asking, check
from benchmarks.serving_requests import Request, binary_tensor, picture_file, values
from fewshot_sdk import export_onnx
from fewshot_sdk.config.onnx_file import INPUT, KNOWN, OUTPUT
from fewshot_sdk.errors import MissingExtra
from fewshot_sdk.images.preprocessing import Pixels

BLOCK = 20  # requests of one kind before the next kind's turn
ALONE = "onnxruntime alone"
WARM = 3  # blocks that are not counted
STARTS_WITHIN, ENDS_WITHIN = 60.0, 60.0  # seconds

Found = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """`fewshot serve` on the loopback; log: the file of its stderr."""

    process: subprocess.Popen[bytes]
    port: int
    name: str
    log: Path

    @property
    def megabytes(self) -> float:
        """Its resident memory, on Linux."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1000


@contextmanager
def serving(model: Path) -> Iterator[Server]:
    """The server of a file; killed in the end if it has not ended. Raises ProcessFailed if it does not start."""
    log = model.with_suffix(".log")
    command = [sys.executable, "-m", "fewshot_cli.main", "serve", str(model), "--port", "0"]
    with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + STARTS_WITHIN
            while not (found := re.search(r"http://[\d.]+:(\d+)/", log.read_text())):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ProcessFailed(f"`{' '.join(command)}` did not start: {log.read_text().strip()}")
                time.sleep(0.05)
            yield Server(process, int(found[1]), model.stem, log)
        finally:
            process.kill()


def alone(model: Path, pictures: Pixels) -> Callable[[int], list[float]]:
    """A function that runs the graph n times by onnxruntime alone, and gives the milliseconds of each run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as the server has it
    options.log_severity_level = 3  # it warns of the input `threshold`, which may be left out
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(n: int) -> list[float]:
        return [_milliseconds(lambda: session.run([OUTPUT, KNOWN], {INPUT: pictures})) for _ in range(n)]

    return run


def one_client(server: Server, model: Path, pictures: Pixels, n: int) -> dict[str, list[float]]:
    """Milliseconds of about n requests of each kind on one connection, and of onnxruntime alone between them."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask(request: Request) -> None:
        path, body, headers = request
        connection.request("POST", path, body, headers)
        with connection.getresponse() as answer:
            text = answer.read()
            if answer.status != 200:
                raise ProcessFailed(f"fewshot serve answered {answer.status} to {path}: {text[:300]!r}")

    requests = {
        "binary tensor": binary_tensor(server.name, pictures),
        "JSON": values(server.name, pictures),
        "PNG file": picture_file(pictures),
    }
    times: dict[str, list[float]] = {name: [] for name in (ALONE, *requests)}
    child: Child[int, list[float]] = Child("onnxruntime", alone, model, pictures)
    try:
        for block in range(-WARM, -(-n // BLOCK)):
            found = {ALONE: child.ask(BLOCK)}
            for name, request in requests.items():
                found[name] = [_milliseconds(lambda request=request: ask(request)) for _ in range(BLOCK)]  # type: ignore[misc]
            if block >= 0:
                times = {name: [*taken, *found[name]] for name, taken in times.items()}
    finally:
        child.end()
        connection.close()
    return times


@dataclass
class Load:
    """What came of the requests of many connections.

    milliseconds: of those that were answered before the server was told to end; errors: how many of each kind;
    megabytes: the server's memory before the first, in the middle and at the end; answered, broken: the requests that
    were under way when it was told to end; unsent: those that the client had not sent, and then found no server for.
    """

    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    megabytes: list[float] = field(default_factory=list)
    answered: int = 0
    unsent: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    log_lines: int = 0
    exit_code: int | None = None
    seconds_to_end: float = 0.0


async def load(server: Server, asking: Asking, connections: int, seconds: float) -> Load:
    """What came of `connections` that ask for `seconds`, each again once it is answered, until the server ends."""
    found, told = Load(), False

    async def again_and_again(ask: Asking) -> None:
        while not told:
            began = time.perf_counter()
            error = await ask()
            if told:
                found.answered += error is None
                found.unsent += error == UNCONNECTED
                found.broken.update([error] if error not in (None, UNCONNECTED) else [])
            elif error is None:
                found.milliseconds.append(1000 * (time.perf_counter() - began))
            else:
                found.errors[error] += 1
                await asyncio.sleep(0.1)  # as a client would, which a 503 tells to wait a second

    found.megabytes.append(server.megabytes)
    began = time.perf_counter()
    tasks = [asyncio.create_task(again_and_again(asking)) for _ in range(connections)]
    for _ in range(2):
        await asyncio.sleep(seconds / 2)
        found.megabytes.append(server.megabytes)
    found.seconds, told = time.perf_counter() - began, True
    server.process.terminate()
    await asyncio.wait(tasks, timeout=ENDS_WITHIN)
    found.exit_code = await asyncio.to_thread(server.process.wait, ENDS_WITHIN)
    found.seconds_to_end = time.perf_counter() - began - found.seconds
    found.log_lines = len(server.log.read_text().splitlines()) - 1  # but the one that says that it serves
    await asyncio.gather(*tasks)
    return found


def measure(preset: str, side: int, requests: int, connections: int, seconds: float, client: str) -> Found:
    """The figures of one client, and of many if there are any. Raises MissingExtra without their library."""
    if connections:
        check(client)
    picture = np.random.default_rng(1).integers(0, 256, (1, side, side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        model = export_onnx(classifier_of(preset), Path(folder) / "noise.onnx").path
        with serving(model) as server:
            times = one_client(server, model, picture, requests)
            found: Found = {name: quantiles(taken) for name, taken in times.items()}
            least = statistics.median(times[ALONE])
            found["overhead_ms"] = {
                name: statistics.median(taken) - least for name, taken in times.items() if name != ALONE
            }
            if connections:
                found["load"] = asyncio.run(under_load(server, picture, connections, seconds, client))
    return found


async def under_load(server: Server, picture: Pixels, connections: int, seconds: float, client: str) -> Found:
    """The figures of many connections by a client library."""
    async with CLIENTS[client](server.port, server.name, picture, connections) as asking:
        found = await load(server, asking, connections, seconds)
    return {
        "client": client,
        "connections": connections,
        "seconds": found.seconds,
        "answered": len(found.milliseconds),
        "answered_per_second": len(found.milliseconds) / found.seconds,
        **quantiles(found.milliseconds),
        "errors": dict(found.errors),
        "megabytes": found.megabytes,
        "log_lines": found.log_lines,
        "under_way_at_sigterm": found.answered + found.broken.total(),
        "answered_after_sigterm": found.answered,
        "broken_after_sigterm": dict(found.broken),
        "unsent_at_sigterm": found.unsent,
        "seconds_to_end": found.seconds_to_end,
        "exit_code": found.exit_code,
    }


def quantiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile."""
    return {f"p{q}_ms": float(np.percentile(milliseconds, q)) if milliseconds else float("nan") for q in (50, 99)}


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="What the server adds to onnxruntime, and what many clients get.")
    parser.add_argument("--preset", default="omniglot")
    parser.add_argument("--side", type=int, default=105)
    parser.add_argument("--requests", type=int, default=1000, help="of one client, of each kind")
    parser.add_argument("--connections", type=int, default=200, help="at once; 0: one client alone is measured")
    parser.add_argument("--seconds", type=float, default=600, help="for which they ask")
    parser.add_argument("--client", choices=CLIENTS, default="tritonclient")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    words = options.preset, options.side, options.requests, options.connections, options.seconds, options.client
    try:
        found = measure(*words)
    except (MissingExtra, ProcessFailed) as error:
        sys.exit(str(error))
    print(json.dumps(found) if options.json else described(found))


def described(found: Found) -> str:
    """The figures in words, a line each."""
    overhead = found["overhead_ms"]
    lines = [
        f"{name:<18} p50 {found[name]['p50_ms']:6.2f} ms  p99 {found[name]['p99_ms']:6.2f} ms"
        + (f"  {overhead[name]:5.2f} ms above onnxruntime alone" if name in overhead else "")
        for name in (ALONE, *overhead)
    ]
    if load := found.get("load"):
        start, middle, end = load["megabytes"]
        lines += [
            f"{load['client']}, {load['connections']} connections for {load['seconds']:.0f} s: {load['answered']:,} "
            f"answered, {load['answered_per_second']:.0f} a second, p50 {load['p50_ms']:.0f} ms, "
            f"p99 {load['p99_ms']:.0f} ms; errors: {load['errors'] or 'none'}",
            f"resident memory of the server: {start:.0f} MB before, {middle:.0f} in the middle, {end:.0f} at the end; "
            f"lines of its log: {load['log_lines']}",
            f"SIGTERM with {load['under_way_at_sigterm']} requests under way: {load['answered_after_sigterm']} "
            f"answered, broken: {load['broken_after_sigterm'] or 'none'}, and {load['unsent_at_sigterm']} that the "
            f"client had not sent; over after {load['seconds_to_end']:.1f} s "
            f"with exit code {load['exit_code']}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
