"""Accuracy over many tasks, with its 95 % interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.records import Baseline, Evaluation, Mode
from fewshot_sdk.data.tasks import Seed, TaskSampler, mini_batches
from fewshot_sdk.engine.features import feature_backbones, features
from fewshot_sdk.engine.forward import Forward
from fewshot_sdk.engine.heads import begin, new_head, open_head
from fewshot_sdk.engine.inner_loop import fine_tune, one_thread
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.intervals import interval
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.nets.params import LearnerState

MODES: tuple[Mode, ...] = get_args(Mode)


def evaluate(
    init: Initialization, tasks: TaskSampler, *, n_tasks: int, mode: Mode = "inductive", workers: Workers | None = None
) -> Evaluation:
    """Mean accuracy of `init` over the first `n_tasks` tasks, and its 95 % interval.

    mode: `transductive`, `inductive` or `frozen`; see `accuracies`. All workers get the same result.
    Raises ConfigError if a dense head has another number of rows than the tasks have classes.
    """
    workers = workers or Workers()
    mine = list(accuracies(init, tasks, n_tasks=n_tasks, modes=[mode], workers=workers))
    return summaries(mine, tasks, n_tasks, workers)[0]


def accuracies(
    init: Initialization, tasks: TaskSampler, *, n_tasks: int, modes: Sequence[Mode], workers: Workers | None = None,
    baseline: Baseline | None = None,
) -> Iterator[dict[Mode, float]]:  # fmt: skip
    """Yields the share of queries classified right in each of the first `n_tasks` tasks, by mode.

    With several workers, each process yields its share of the tasks.

    The initialization's adaptation loop runs once on each support set. `transductive`: the queries of a task are
    classified together; `inductive`: each alone, in a batch with the support set; `frozen`: each alone, with the
    support set's statistics, as an exported classifier does.
    baseline: what replaces the adapted initialization (see `Evaluation`), on the same tasks.
    Source: the reference implementation's `eval.py` (10,000 tasks, one query per class).
    """
    recipe, inner = init.recipe, init.recipe.adaptation
    backbones = recipe.backbone, feature_backbones(recipe)[0]
    network, feature_network = (build_network(each, recipe.preprocessing, tasks.n_way) for each in backbones)
    start = open_head(init.state, recipe.head, network)
    for index in (workers or Workers()).share(n_tasks):
        task = tasks.task(index)
        with one_thread():
            if baseline == "prototypes" or baseline == "probe":
                adapted, known = feature_network, features(feature_network, start.params, task.support)
                params = {**start.params, **new_head(baseline, adapted, known, task.support_labels)}
            else:
                adapted = network
                opened = open_head(_random(init, task.seed), recipe.head, network) if baseline == "random" else start
                state = begin(network, opened, recipe.head, task.support, task.support_labels)
                batches = mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed)
                params = fine_tune(network, state, task.support, task.support_labels, batches, inner)[0].params
            forward = Forward(adapted, params)
            predicted = {mode: predict(mode, forward, task.support, task.query) for mode in modes}
        yield {
            mode: (logits.argmax(1) == task.query_labels).double().mean().item() for mode, logits in predicted.items()
        }


def _random(init: Initialization, seed: Seed) -> LearnerState:
    """A fresh start of meta-training, drawn anew for each task so that the interval covers the draw."""
    (draw,) = np.random.SeedSequence((*seed, 3)).generate_state(1)  # another stream than the mini-batches'
    return fresh(init.recipe, int(draw), init.provenance).state


def predict(mode: Mode, forward: Forward, support: Tensor, queries: Tensor) -> Tensor:
    """Logits (q, n_way) of the queries in one of the modes.

    Source: the reference implementation's `_test_predictions`; `frozen` predicts as a classifier from `adapt` does.
    """
    if mode == "transductive":
        return forward.together(queries)
    if mode == "inductive":
        return torch.stack([forward.together(torch.cat([support, query.unsqueeze(0)]))[-1] for query in queries])
    return forward.apart(queries, support)


def summaries(
    mine: Sequence[dict[Mode, float]],
    tasks: TaskSampler,
    n_tasks: int,
    workers: Workers,
    baseline: Baseline | None = None,
) -> list[Evaluation]:
    """The evaluation in each mode, from all processes' shares of `accuracies`; the same in every process."""
    rows = workers.gather([torch.tensor(list(right.values()), dtype=torch.float64) for right in mine], n_tasks)
    return [summarize([float(row[i]) for row in rows], tasks, mode, baseline) for i, mode in enumerate(mine[0])]


def summarize(values: list[float], tasks: TaskSampler, mode: Mode, baseline: Baseline | None = None) -> Evaluation:
    """The evaluation from these accuracies, one for each of `tasks`."""
    accuracy, half = interval(values)
    return Evaluation(
        data=tasks.data.name,
        data_sha256=tasks.data.digest,
        accuracy=accuracy,
        ci95=half,
        tasks=len(values),
        ways=tasks.n_way,
        shots=tasks.k_shot,
        mode=mode,
        seed=tasks.seed,
        baseline=baseline,
    )
