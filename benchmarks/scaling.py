"""How meta-training scales: tasks/s on one core and on more, measured, and on several machines, by a model.

    python -m benchmarks.scaling [--seconds S] [--workers N] [--bandwidth GBIT] [--latency MICROSECONDS] [--json]

Measured: N workers on N cores, for N from 1 on; each process may use these cores only. `apart` is the rate of as many
processes on the same cores that exchange nothing: what the machine can do at most. `busy` is the number of cores that
the workers kept busy, by their processor time.
The model: an outer step costs each machine the compute time C of its t tasks, and the exchange of their vectors, each
of P parameters and P second moments, 4 bytes each. A machine sends a slice of every vector to each other one, which
adds it up, and the sum of its own slices to all:

    T(M) = C + (M - 1) (t + 1) (latency + 8 P / M / bandwidth)        efficiency(M) = C / T(M)

Every machine does the same number of tasks, so the tasks of a step grow with M. What the exchange overlaps with
computing is not subtracted. C is measured for Conv4 (omniglot-5way, the tasks of one step on one machine). The network
of 25 million parameters is not run: its C is that of a ResNet-50 at 84 x 84 pixels, 1.2 GFLOP an image forward and
three times that with backward, at the FLOP/s measured for Conv4, for 5 tasks of 5 steps of 10 images. latency and
bandwidth are measured between two processes over the loopback, unless they are given for a network between machines. No
efficiency on several machines has been measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import dataclass
from itertools import islice

import torch
import torch.distributed as dist

from benchmarks.meta_training import CORES, flops_per_step, start_of, stream
from fewshot_sdk.config.presets import preset
from fewshot_sdk.engine.workers import Workers, run_workers
from fewshot_sdk.meta.training import meta_train

TASKS = 5  # of a machine in an outer step
BIG_PARAMETERS, BIG_FLOP = 25_000_000, TASKS * 5 * 10 * 3 * 1.2e9
LIMIT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Network:
    """latency: seconds a message; bandwidth: bytes a second."""

    latency: float
    bandwidth: float


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Of some workers on as many cores: tasks/s of training together and of each for itself, and cores kept busy."""

    together: float
    apart: float
    busy: float


def rates(workers: Workers, seconds: float) -> Rates:
    """The rates on the first cores of this process, as many as there are workers; run in every worker."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: workers.size])
    together, busy = tasks_per_second(workers, seconds)
    dist.barrier()
    apart, _ = tasks_per_second(Workers(), seconds)
    mine = torch.tensor([apart, busy], dtype=torch.float64)
    apart, busy = torch.stack(workers.gather([mine], workers.size)).sum(0).tolist()
    return Rates(together=together, apart=apart, busy=busy)


def tasks_per_second(workers: Workers, seconds: float) -> tuple[float, float]:
    """The rate of meta-training over about that long, at least one step, and the cores that this process kept busy."""
    recipe = preset("omniglot-5way")
    tasks = stream(recipe)
    steps = meta_train(recipe, tasks, start=start_of(recipe, tasks), workers=workers)
    for _ in islice(steps, 3):
        pass
    began, worked, done = time.perf_counter(), time.process_time(), 0
    while done == 0 or not workers.any(time.perf_counter() - began > seconds):
        next(steps)
        done += 1
    passed = time.perf_counter() - began
    return done * recipe.meta.tasks_per_step / passed, (time.process_time() - worked) / passed


def network(_: Workers) -> Network:
    """The latency, from a message of 4 bytes, and the bandwidth, from a long one; run in each of two workers."""
    times = {}
    for n in (1, 4_000_000):
        data, each = torch.zeros(n), []
        for _repeat in range(12):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(data)
            each.append(time.perf_counter() - began)
        times[n] = sorted(each)[len(each) // 2] / 2  # a ring of two passes on half the data twice
    small, large = times.values()
    return Network(latency=small, bandwidth=4 * 4_000_000 / 2 / max(large - small, 1e-9))


def network_of(latency: float | None, bandwidth: float | None) -> Network:
    """The network of this latency (microseconds) and bandwidth (Gbit/s); None is measured over the loopback."""
    if latency is not None and bandwidth is not None:
        return Network(latency=latency / 1e6, bandwidth=bandwidth * 1e9 / 8)
    here = run_workers(2, network)
    return Network(
        latency=here.latency if latency is None else latency / 1e6,
        bandwidth=here.bandwidth if bandwidth is None else bandwidth * 1e9 / 8,
    )


def efficiency(machines: int, compute: float, parameters: int, net: Network) -> float:
    """The share of an outer step that is not spent on the exchange, by the model."""
    exchange = (machines - 1) * (TASKS + 1) * (net.latency + 8 * parameters / machines / net.bandwidth)
    return compute / (compute + exchange)


def most_machines(compute: float, parameters: int, net: Network, least: float = 0.9) -> int:
    """The largest number of machines with an efficiency over `least`; each further machine lowers it."""
    low, high = 1, LIMIT
    while low < high:
        middle = math.ceil((low + high) / 2)
        low, high = (middle, high) if efficiency(middle, compute, parameters, net) > least else (low, middle - 1)
    return low


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Meta-training against the number of workers and machines.")
    parser.add_argument("--seconds", type=float, default=10, help="of training with each number of workers")
    parser.add_argument("--workers", type=int, default=CORES, help="largest number to measure")
    parser.add_argument("--bandwidth", type=float, help="of the network, Gbit/s; default: measured over the loopback")
    parser.add_argument(
        "--latency", type=float, help="of the network, microseconds; default: measured over the loopback"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    recipe = preset("omniglot-5way")
    tasks = stream(recipe)
    most = min(options.workers, CORES, recipe.meta.tasks_per_step)
    found = {n: run_workers(n, rates, options.seconds) for n in range(1, most + 1)}
    net = network_of(options.latency, options.bandwidth)
    compute = recipe.meta.tasks_per_step / max(each.together for each in found.values())
    speed = flops_per_step(recipe, tasks) / compute
    small = sum(tensor.numel() for tensor in start_of(recipe, tasks).state.params.values())
    cases = {"Conv4": (compute, small), "25M parameters": (BIG_FLOP / speed, BIG_PARAMETERS)}
    machines = {name: most_machines(c, p, net) for name, (c, p) in cases.items()}
    if options.json:
        measured = {name: {n: getattr(each, name) for n, each in found.items()} for name in ("apart", "busy")}
        together = {n: each.together for n, each in found.items()}
        model = {"latency": net.latency, "bandwidth": net.bandwidth, "machines": machines}
        print(json.dumps({"cores": CORES, "tasks_per_second": together, **measured, "model": model}))
        return
    print(f"measured on this machine of {CORES} cores:")
    for n, each in found.items():
        print(
            f"  {n} workers on {n} cores: {each.together:.1f} tasks/s, {each.together / found[1].together / n:.0%} of "
            f"{n} times one; {each.busy:.2f} cores busy; {each.apart:.1f} tasks/s by {n} that exchange nothing"
        )
    print(f"by the model, with a message of {1e6 * net.latency:.0f} us and {net.bandwidth / 1e9:.2f} GB/s:")
    for name, (c, p) in cases.items():
        print(
            f"  {name}: {p:,} parameters, {1000 * c:.0f} ms of compute a step and machine: "
            f"efficiency over 90 % up to {machines[name]:,} machines"
        )


if __name__ == "__main__":
    main()
