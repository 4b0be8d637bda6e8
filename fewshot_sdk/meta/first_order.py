"""What one task contributes to an outer step: the point that the initialization then moves towards."""

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

Result = tuple[Tensor, Tensor]  # of a task: a vector to take the mean of, and the losses of its steps
# what `ALGORITHMS` refers to: of a tuner, a task, the loops, and how many cores it may use; and of tasks side by side
Target = Callable[[FineTuner, Task, InnerLoop, MetaLoop, int], Result]
Targets = Callable[[FineTuner, Sequence[Task], InnerLoop, MetaLoop], list[Result]]


def target(tuner: FineTuner, task: Task, inner: InnerLoop, meta: MetaLoop, cores: int = 1) -> Result:
    """The goal of one task, by `meta.algorithm`, as a vector of the tuner's, and its inner steps' losses, (steps,).

    The second moments are those after all steps.
    """
    found = cast("Target", referred(ALGORITHMS[meta.algorithm].contribution))
    return found(tuner, task, inner, meta, cores)


def targets(tuner: FineTuner, tasks: Sequence[Task], inner: InnerLoop, meta: MetaLoop) -> list[Result]:
    """The same of tasks side by side, for an algorithm that has such a form."""
    found = cast("Targets", referred(ALGORITHMS[meta.algorithm].side_by_side))
    return found(tuner, tasks, inner, meta)


def end_of_steps(tuner: FineTuner, task: Task, inner: InnerLoop, meta: MetaLoop, cores: int) -> Result:
    """Reptile's goal: the weights after all inner steps.  Source: Nichol et al. 2018, section 3."""
    return tuner.tune(*_with_batches(task, inner, meta), cores=cores)


def ends_of_steps(tuner: FineTuner, tasks: Sequence[Task], inner: InnerLoop, meta: MetaLoop) -> list[Result]:
    """Reptile's goals of tasks side by side."""
    return tuner.tune_all([_with_batches(task, inner, meta) for task in tasks])


def last_step(tuner: FineTuner, task: Task, inner: InnerLoop, meta: MetaLoop, cores: int) -> Result:
    """First-order MAML's goal: the start moved by the last inner step alone.

    That step sees a mini-batch drawn like the others (shared tail, `tail_shots` 0), or that many images of each class
    that no earlier step saw.
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
    """The mini-batches of all inner steps but the last, (steps - 1, batch_size), and the last, (1, m): rows."""
    if (tail := meta.tail_shots) == 0:
        batches = mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed, meta.replacement)
        return batches[:-1], batches[-1:]
    check_grouped(task)
    rows = torch.arange(len(task.support)).view(task.n_way, -1)
    early = rows[:, :-tail].flatten()
    batches = mini_batches(len(early), inner.batch_size, inner.steps - 1, task.seed, meta.replacement)
    return early[batches], rows[:, -tail:].reshape(1, -1)


def check_grouped(task: Task) -> None:
    """Raises DataError unless the support set has as many examples of each class, grouped by it: 0, 0, 1, 1, 2, 2."""
    labels, each = task.support_labels, len(task.support_labels) // task.n_way
    if labels.dtype == torch.int64 and not torch.equal(labels, torch.arange(task.n_way).repeat_interleave(each)):
        raise DataError(
            f"task {task.seed}: a tail is the last of each class's examples, which must be grouped by class, as many "
            f"of each: expected {each} labels 0, then 1, up to {task.n_way - 1}, found {labels.tolist()[:20]}"
        )
