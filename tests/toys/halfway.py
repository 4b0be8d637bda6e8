"""What a new algorithm adds as meta/NAME.py: the target of one task; here, the weights after half the inner steps."""

from __future__ import annotations

from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Task, mini_batches
from fewshot_sdk.engine.inner_loop import FineTuner
from fewshot_sdk.meta.first_order import Result


def halfway(tuner: FineTuner, task: Task, inner: InnerLoop, meta: MetaLoop, cores: int) -> Result:
    rows = mini_batches(len(task.support), inner.batch_size, inner.steps, task.seed, meta.replacement)
    return tuner.tune(task.support, task.support_labels, rows[: inner.steps // 2], cores=cores)
