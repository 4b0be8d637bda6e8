"""Accuracy over many tasks, with a 95 % interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_sdk.backbones import build_network, norm_statistics
from fewshot_sdk.checkpoint import Initialization
from fewshot_sdk.heads import open_head
from fewshot_sdk.inner_loop import fine_tune, one_thread
from fewshot_sdk.params import Params
from fewshot_sdk.records import Evaluation, Mode
from fewshot_sdk.tasks import TaskSampler, mini_batches
from fewshot_sdk.team import Team

MODES: tuple[Mode, ...] = get_args(Mode)


def evaluate(init: Initialization, tasks: TaskSampler, *, n_tasks: int, mode: Mode = "inductive") -> Evaluation:
    """Mean accuracy of `init` over the first `n_tasks` tasks, and its 95 % interval.

    mode: `transductive`, `inductive` or `frozen`; see `accuracies`.
    Raises ConfigError if a dense head has another number of rows than the tasks have classes.
    """
    values = [right[mode] for right in accuracies(init, tasks, n_tasks=n_tasks, modes=[mode])]
    return summarize(values, tasks, mode)


def accuracies(
    init: Initialization, tasks: TaskSampler, *, n_tasks: int, modes: Sequence[Mode], team: Team | None = None
) -> Iterator[dict[Mode, float]]:
    """Yields the share of queries classified right in each of the first `n_tasks` tasks, by each mode.

    In a team, each process yields those of its own share.

    The initialization's adaptation loop is run once on each support set. `transductive`: the queries
    of a task are classified together; `inductive`: each alone with the support set; `frozen`: each
    alone, with the support set's statistics, as an exported classifier does.
    Source: the reference implementation's `eval.py` (10,000 tasks, one query per class).
    """
    recipe, inner = init.recipe, init.recipe.adaptation
    network = build_network(recipe.backbone, recipe.preprocessing, tasks.n_way)
    start = open_head(init.state, recipe.head, network)
    for index in (team or Team()).share(n_tasks):
        task = tasks.task(index)
        batches = mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed)
        with one_thread():
            state, _ = fine_tune(network, start, task.support, task.support_labels, batches, inner)
            predicted = {mode: predict(mode, network, state.params, task.support, task.query) for mode in modes}
        yield {
            mode: (logits.argmax(1) == task.query_labels).double().mean().item() for mode, logits in predicted.items()
        }


def predict(mode: Mode, network: nn.Module, params: Params, support: Tensor, queries: Tensor) -> Tensor:
    """Logits (q, n_way) of the queries by one of the modes."""
    if mode == "transductive":
        return predict_transductive(network, params, queries)
    if mode == "inductive":
        return predict_inductive(network, params, support, queries)
    return predict_frozen(network, params, support, queries)


def predict_transductive(network: nn.Module, params: Params, queries: Tensor) -> Tensor:
    """Logits (q, n_way), all queries in one batch: they lend each other their statistics.

    Source: the reference implementation's `_test_predictions`.
    """
    with torch.no_grad():
        logits: Tensor = functional_call(network, params, (queries,))
    return logits


def predict_inductive(network: nn.Module, params: Params, support: Tensor, queries: Tensor) -> Tensor:
    """Logits (q, n_way), each query in a batch of its own with the whole support set.

    Source: the reference implementation's `_test_predictions`.
    """
    batches = [torch.cat([support, query.unsqueeze(0)]) for query in queries]
    return torch.stack([predict_transductive(network, params, batch)[-1] for batch in batches])


def predict_frozen(network: nn.Module, params: Params, support: Tensor, queries: Tensor) -> Tensor:
    """Logits (q, n_way), each query judged with the support set's statistics: what `adapt` freezes."""
    statistics = norm_statistics(network, params, support)
    network.eval()
    try:
        return predict_transductive(network, {**params, **statistics}, queries)
    finally:
        network.train()


def summarize(values: list[float], tasks: TaskSampler, mode: Mode) -> Evaluation:
    """The evaluation that these accuracies of `tasks` amount to; the interval is 1.96 standard errors."""
    sample = np.asarray(values, np.float64)
    error = sample.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return Evaluation(
        data=tasks.data.name,
        data_sha256=tasks.data.digest,
        accuracy=float(sample.mean()),
        ci95=1.96 * float(error),
        tasks=len(values),
        ways=tasks.n_way,
        shots=tasks.k_shot,
        mode=mode,
        seed=tasks.seed,
    )
