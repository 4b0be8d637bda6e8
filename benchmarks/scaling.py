"""How meta-training scales: tasks/s by the number of workers, measured, and the useful number of machines, modelled.

    python -m benchmarks.scaling [--seconds S] [--workers N] [--bandwidth GBIT] [--latency MICROSECONDS] [--json]

The model: an outer step costs each machine the compute time C of its tasks, and all machines one ring reduction of
the P parameters and P second moments, 4 bytes each:

    T(M) = C + 2 (M - 1) (latency + 8 P / M / bandwidth)        efficiency(M) = C / T(M)

Every machine does the same number of tasks, so the tasks of a step grow with M. C is measured for Conv4
(omniglot-5way, the tasks of one step on one machine). The network of 25 million parameters is not run: its C is that
of a ResNet-50 at 84 x 84 pixels, 1.2 GFLOP an image forward and three times that with backward, at the FLOP/s
measured for Conv4, for 5 tasks of 5 steps of 10 images. latency and bandwidth are measured between two processes
over the loopback, unless they are given for a network between machines.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from itertools import islice

import torch
import torch.distributed as dist

from benchmarks.meta_training import CORES, flops_per_step, start_of, stream
from fewshot_sdk.config.presets import preset
from fewshot_sdk.engine.workers import Workers, run_workers
from fewshot_sdk.meta.training import meta_train

BIG_PARAMETERS, BIG_FLOP = 25_000_000, 5 * 5 * 10 * 3 * 1.2e9
LIMIT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Network:
    """latency: seconds a message; bandwidth: bytes a second."""

    latency: float
    bandwidth: float


def tasks_per_second(workers: Workers, seconds: float) -> float:
    """The rate of meta-training over about that long, at least one step; run in every worker."""
    recipe = preset("omniglot-5way")
    tasks = stream(recipe)
    steps = meta_train(recipe, tasks, start=start_of(recipe, tasks), workers=workers)
    for _ in islice(steps, 3):
        pass
    began, done = time.perf_counter(), 0
    while done == 0 or not workers.any(time.perf_counter() - began > seconds):
        next(steps)
        done += 1
    return done * recipe.meta.tasks_per_step / (time.perf_counter() - began)


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
    """The share of an outer step that is not spent on the reduction."""
    exchange = 2 * (machines - 1) * (net.latency + 8 * parameters / machines / net.bandwidth)
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
    rates = {1: tasks_per_second(Workers(), options.seconds)}
    for workers in range(2, min(options.workers, recipe.meta.tasks_per_step) + 1):
        rates[workers] = run_workers(workers, tasks_per_second, options.seconds)
    net = network_of(options.latency, options.bandwidth)
    compute = recipe.meta.tasks_per_step / max(rates.values())
    speed = flops_per_step(recipe, tasks) / compute
    small = sum(tensor.numel() for tensor in start_of(recipe, tasks).state.params.values())
    cases = {"Conv4": (compute, small), "25M parameters": (BIG_FLOP / speed, BIG_PARAMETERS)}
    most = {name: most_machines(c, p, net) for name, (c, p) in cases.items()}
    if options.json:
        found = {"tasks_per_second": rates, "latency": net.latency, "bandwidth": net.bandwidth, "machines": most}
        print(json.dumps(found))
        return
    for workers, rate in rates.items():
        print(f"{workers} workers: {rate:.1f} tasks/s, {rate / rates[1] / workers:.0%} of {workers} times one")
    print(f"a message takes {1e6 * net.latency:.0f} us and {net.bandwidth / 1e9:.2f} GB/s")
    for name, (c, p) in cases.items():
        print(
            f"{name}: {p:,} parameters, {1000 * c:.0f} ms of compute a step and machine: "
            f"efficiency over 90 % up to {most[name]:,} machines"
        )


if __name__ == "__main__":
    main()
