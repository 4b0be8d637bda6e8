"""A task's contribution to a first-order outer step: the target that the initialization moves towards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Task, mini_batches
from fewshot_sdk.engine.inner_loop import FineTuner
from fewshot_sdk.errors import DataError
from fewshot_sdk.tables import referred

Result = tuple[Tensor, Tensor]  # of a task: a vector, to be averaged over tasks, and the losses of its steps
# `contribution` and `side_by_side` in `ALGORITHMS`; the integer is the number of cores
Target = Callable[[FineTuner, Task, InnerLoop, MetaLoop, int], Result]
Targets = Callable[[FineTuner, Sequence[Task], InnerLoop, MetaLoop], list[Result]]


def target(tuner: FineTuner, task: Task, inner: InnerLoop, meta: MetaLoop, cores: int = 1) -> Result:
    """The target of one task, by `meta.algorithm`, as one of the tuner's vectors, and the losses (steps,).

    The second moments in it are those after all steps.
    """
    found = cast("Target", referred(ALGORITHMS[meta.algorithm].contribution))
    return found(tuner, task, inner, meta, cores)


def targets(tuner: FineTuner, tasks: Sequence[Task], inner: InnerLoop, meta: MetaLoop) -> list[Result]:
    """The targets of several tasks computed side by side, for algorithms that have such a form."""
    found = cast("Targets", referred(ALGORITHMS[meta.algorithm].side_by_side))
    return found(tuner, tasks, inner, meta)


def end_of_steps(tuner: FineTuner, task: Task, inner: InnerLoop, meta: MetaLoop, cores: int) -> Result:
    """Reptile's target: the weights after all inner steps.  Source: Nichol et al. 2018, section 3."""
    return tuner.tune(*_with_batches(task, inner, meta), cores=cores)


def ends_of_steps(tuner: FineTuner, tasks: Sequence[Task], inner: InnerLoop, meta: MetaLoop) -> list[Result]:
    """Reptile's targets, side by side."""
    return tuner.tune_all([_with_batches(task, inner, meta) for task in tasks])


def last_step(tuner: FineTuner, task: Task, inner: InnerLoop, meta: MetaLoop, cores: int) -> Result:
    """First-order MAML's target: the start, moved by the last inner step only.

    That step takes a mini-batch drawn like the others (`tail_shots` 0: a shared tail), or `tail_shots` images of each
    class that no earlier step uses.
    Source: Nichol et al. 2018, sections 3 and 6.2; the reference implementation's `FOML`.
    """
    first, last = split_batches(task, inner, meta)
    middle, losses = tuner.tune(task.support, task.support_labels, first, cores=cores)
    end, last_loss = tuner.tune(task.support, task.support_labels, last, middle, len(first), cores)
    return tuner.shifted(middle, end), torch.cat([losses, last_loss])


def _with_batches(task: Task, inner: InnerLoop, meta: MetaLoop) -> tuple[Tensor, Tensor, Tensor]:
    rows = mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed, meta.replacement)
    return task.support, task.support_labels, rows


def split_batches(task: Task, inner: InnerLoop, meta: MetaLoop) -> tuple[Tensor, Tensor]:
    """The mini-batches, as rows, of all inner steps but the last, (steps - 1, batch_size), and the last, (1, m)."""
    if (tail := meta.tail_shots) == 0:
        batches = mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed, meta.replacement)
        return batches[:-1], batches[-1:]
    check_grouped(task)
    rows = torch.arange(len(task.support)).view(task.n_way, -1)
    early = rows[:, :-tail].flatten()
    batches = mini_batches(len(early), inner.batch_size, inner.steps - 1, task.seed, meta.replacement)
    return early[batches], rows[:, -tail:].reshape(1, -1)


def check_grouped(task: Task) -> None:
    """Raises DataError unless each class has equally many examples and they are grouped by class: 0, 0, 1, 1, 2, 2."""
    labels, each = task.support_labels, len(task.support_labels) // task.n_way
    if labels.dtype == torch.int64 and not torch.equal(labels, torch.arange(task.n_way).repeat_interleave(each)):
        raise DataError(
            f"task {task.seed}: the tail is the last examples of each class, so examples must be grouped by class, "
            f"equally many of each: expected {each} labels 0, then 1, up to {task.n_way - 1}, found "
            f"{labels.tolist()[:20]}"
        )
