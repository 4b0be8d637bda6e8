"""Initializations compared on the same tasks: paired differences, wins and losses, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice

import numpy as np
import torch

from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.records import Comparison, Mode, Pair, Point, Rival
from fewshot_sdk.data.tasks import TaskSampler, mini_batches
from fewshot_sdk.engine.forward import Forward
from fewshot_sdk.engine.heads import begin, open_head
from fewshot_sdk.engine.inner_loop import fine_tune, one_thread
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.intervals import interval
from fewshot_sdk.meta.evaluation import predict
from fewshot_sdk.nets.network import build_network

MEASURED_STEPS = (0, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500)


def measured_steps(init: Initialization) -> tuple[int, ...]:
    """The numbers of inner steps after which an initialization is measured, up to its recipe's."""
    last = init.recipe.adaptation.steps
    return (*(steps for steps in MEASURED_STEPS if steps < last), last)


def progressions(
    inits: Mapping[str, Initialization], tasks: Mapping[str, TaskSampler], n_tasks: int, mode: Mode,
    workers: Workers | None = None,
) -> Iterator[dict[str, list[float]]]:  # fmt: skip
    """Yields for each task, by name, the share of queries right after each of `measured_steps`.

    With several workers, each process yields its share of the tasks.
    tasks: by the same names; samplers of the same classes, ways, shots and seed, preprocessed for each initialization.
    Raises ConfigError for fewer than two initializations, or naming one whose dense head has another number of rows.
    """
    if len(inits) < 2:
        raise ConfigError(f"expected two or more initializations to compare, found {len(inits)}")
    networks, starts = {}, {}
    for name, init in inits.items():
        networks[name] = build_network(init.recipe.backbone, init.recipe.preprocessing, tasks[name].n_way)
        try:
            starts[name] = open_head(init.state, init.recipe.head, networks[name])
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
    for index in (workers or Workers()).share(n_tasks):
        shares: dict[str, list[float]] = {name: [] for name in inits}
        for name, init in inits.items():
            task, inner, done = tasks[name].task(index), init.recipe.adaptation, 0
            batches = mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed)
            with one_thread():
                state = begin(networks[name], starts[name], init.recipe.head, task.support, task.support_labels)
                for steps in measured_steps(init):
                    rows = batches[done:steps]
                    state, _ = fine_tune(networks[name], state, task.support, task.support_labels, rows, inner)
                    found = predict(mode, Forward(networks[name], state.params), task.support, task.query).argmax(1)
                    shares[name].append((found == task.query_labels).double().mean().item())
                    done = steps
        yield shares


def gathered(mine: Sequence[Mapping[str, list[float]]], n_tasks: int, workers: Workers) -> list[dict[str, list[float]]]:
    """All processes' shares of `progressions` in task order, the same in every process."""
    rows = [torch.tensor([right for each in shares.values() for right in each], dtype=torch.float64) for shares in mine]
    all_rows = [iter(row.tolist()) for row in workers.gather(rows, n_tasks)]
    return [{name: list(islice(row, len(each))) for name, each in mine[0].items()} for row in all_rows]


def summarized(
    found: Sequence[Mapping[str, list[float]]], inits: Mapping[str, Initialization], tasks: TaskSampler, mode: Mode
) -> Comparison:
    """The comparison over all tasks of `progressions`."""
    values = {name: np.asarray([shares[name] for shares in found], np.float64) for name in inits}
    rivals = []
    for name, init in inits.items():
        intervals = [interval(column) for column in values[name].T]
        counts = measured_steps(init)
        points = [Point(steps=k, accuracy=mean, ci95=half) for k, (mean, half) in zip(counts, intervals, strict=True)]
        rivals.append(
            Rival(
                name=name, accuracy=intervals[-1][0], ci95=intervals[-1][1], points=tuple(points),
                minutes=init.provenance.seconds / 60, memory_mb=init.metrics[-1].memory_mb if init.metrics else None,
            )
        )  # fmt: skip
    pairs = []
    for first, second in combinations(inits, 2):
        differences = values[first][:, -1] - values[second][:, -1]
        mean, half = interval(differences)
        wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
        pairs.append(
            Pair(
                first=first, second=second, difference=mean, ci95=half, wins=wins, losses=losses,
                ties=len(differences) - wins - losses,
            )
        )  # fmt: skip
    return Comparison(
        data=tasks.data.name,
        ways=tasks.n_way,
        shots=tasks.k_shot,
        tasks=len(found),
        mode=mode,
        seed=tasks.seed,
        rivals=tuple(rivals),
        pairs=tuple(pairs),
    )
