"""`fewshot meta-train`: one job, done by this process or by several that share its tasks."""

from __future__ import annotations

import signal
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.jobs import run_job
from fewshot_cli.locks import alone_at
from fewshot_cli.output import progress, say
from fewshot_cli.signals import stoppable
from fewshot_cli.training_job import Job
from fewshot_sdk.errors import MissingExtra, OutputExists, SaveError
from fewshot_sdk.storage.files import check_free, write_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fewshot_sdk import Initialization, Recipe, TaskSampler
    from fewshot_sdk.artifacts.initialization import AnyInitialization
    from fewshot_sdk.engine.workers import Workers
    from fewshot_sdk.meta.regression import NumberStep
    from fewshot_sdk.meta.training import MetaStep

CURVE_POINTS, LEAST_APART, CURVE_TASKS = 20, 500, 200


def meta_train(job: Job, workers: int | None) -> None:
    """Runs the job. Raises SystemExit with 128 + the signal if told to stop, OutputExists if another one runs."""
    with alone_at(job.output, job.checkpoint):
        _meta_train(job, workers)


def _meta_train(job: Job, workers: int | None) -> None:
    check_free(job.output)
    for path in (job.checkpoint, job.pretraining):
        if path.exists() and not job.resume:
            raise OutputExists(f"{path} holds an unfinished training; continue it with --resume, or remove it")
    from fewshot_sdk.artifacts.initialization import load_checkpoint
    from fewshot_sdk.meta.training import check_continues, origin

    if job.of_numbers:
        meta_train_on_numbers(job, workers)
        return
    recipe = job.recipe()
    if job.resume and not job.pretraining.exists():
        load_checkpoint(job.checkpoint)
    say(f"reading {recipe.data.name}")
    tasks = job.tasks(recipe)  # decoded once, for all
    if recipe.pretraining and not job.checkpoint.exists():
        pretrain(job, recipe, tasks)
        job = replace(job, resume=True)
    if recipe.meta.meta_steps == 0:
        alone = load_checkpoint(job.checkpoint)
        check_continues(alone, recipe, origin(tasks, job.command(recipe), job.on()))
        finish(job, alone)
        return
    if job.backbone is not None and not job.checkpoint.exists():
        begin(job, recipe, tasks, job.backbone)
        job = replace(job, resume=True)
    meta = recipe.meta
    inner_steps = meta.meta_steps * meta.tasks_per_step * recipe.inner.steps
    run_job(train, job, 1 if job.on() else workers, meta.tasks_per_step, inner_steps)


def pretrain(job: Job, recipe: Recipe, tasks: TaskSampler) -> None:
    """Pre-trains with all cores in this process, and leaves a checkpoint to meta-train from.

    An epoch that is interrupted is lost; the one before it is kept.
    """
    from fewshot_sdk.artifacts.initialization import save_checkpoint
    from fewshot_sdk.engine.processors import cores
    from fewshot_sdk.meta import pretraining
    from fewshot_sdk.meta.training import origin

    assert recipe.pretraining is not None
    total, start = recipe.pretraining.epochs, None
    if job.pretraining.exists():
        start = pretraining.load_pretraining(job.pretraining, recipe, job.seed, tasks.data)
    epoch = start
    threads = cores() if recipe.backbone.many_threads else 1
    if start is None or start.done < total:
        epochs = pretraining.pretrain(recipe, tasks.data, seed=job.seed, threads=threads, start=start)
        done = start.done if start else 0
        say(f"pre-training for {total - done} epochs; the first tells how long it takes")
        for epoch in progress(epochs, total, "pre-training", lambda e: f"loss {e.loss:.3f}", done, plain_seconds=0):
            pretraining.save_pretraining(epoch, recipe, job.seed, tasks.data, job.pretraining)
    assert epoch is not None
    made = origin(tasks, job.command(recipe), job.on())
    save_checkpoint(pretraining.pretrained(recipe, epoch, tasks.data.n_classes, made), job.checkpoint)
    job.pretraining.unlink()


def begin(job: Job, recipe: Recipe, tasks: TaskSampler, backbone: str) -> None:
    """Leaves a checkpoint of the weights of a timm model, to meta-train from; its command names the commit."""
    import fewshot_sdk
    from fewshot_sdk.artifacts.initialization import begun, save_checkpoint
    from fewshot_sdk.meta.training import origin

    init = fewshot_sdk.load(backbone)
    made = origin(tasks, replace(job, backbone=init.source).command(recipe), job.on())
    save_checkpoint(begun(recipe, init.state.params, made), job.checkpoint)


def meta_train_on_numbers(job: Job, workers: int | None) -> None:
    """The same of a preset for numbers; by one process unless told otherwise, as its tasks are small."""
    from fewshot_sdk.artifacts.initialization import load_checkpoint_of_numbers

    meta, inner = job.regression().meta, job.regression().inner
    if job.resume:
        load_checkpoint_of_numbers(job.checkpoint)
    run_job(train_regression, job, workers or 1, meta.tasks_per_step, meta.meta_steps * inner.steps)


def train(workers: Workers, job: Job) -> str:
    """Meta-trains and saves; returns where to. Only the team's first member writes.

    Raises SystemExit with 128 + the signal if one came before the end: a result would have to wait
    for a parent that is leaving, too.
    """
    import fewshot_sdk
    from fewshot_sdk.artifacts.initialization import load_checkpoint

    recipe = job.recipe()
    start = load_checkpoint(job.checkpoint) if job.resume else None
    command = start.provenance.command if start else job.command(recipe)
    steps = fewshot_sdk.meta_train(
        recipe, job.tasks(recipe), start=start, workers=workers, device=job.on(), command=command
    )
    return _train(workers, job, Curve(job, recipe, start).measured(steps, workers), start)


def train_regression(workers: Workers, job: Job) -> str:
    """As `train`, for numbers."""
    from fewshot_sdk.artifacts.initialization import load_checkpoint_of_numbers
    from fewshot_sdk.meta.regression import meta_train_on_numbers

    recipe = job.regression()
    start = load_checkpoint_of_numbers(job.checkpoint) if job.resume else None
    command = start.provenance.command if start else job.command(recipe)
    steps = meta_train_on_numbers(recipe, seed=job.seed, start=start, workers=workers, command=command)
    return _train(workers, job, steps, start)


def _train(
    workers: Workers,
    job: Job,
    steps: Iterator[MetaStep | NumberStep],
    start: AnyInitialization | None,
) -> str:
    from fewshot_sdk.artifacts.initialization import save_checkpoint

    first, done = workers.rank == 0, start.provenance.meta_steps_done if start else 0
    if first:
        total = (job.regression() if job.of_numbers else job.recipe()).meta.meta_steps
        steps = progress(steps, total, "meta-training", lambda s: f"loss {s.loss:.3f}", done)
    step = None
    with stoppable(patient=workers.size > 1) as signals:
        try:
            for step in steps:
                if step.done == step.meta_steps or workers.any(bool(signals)):
                    break
                if first and step.done % job.checkpoint_every == 0:
                    try:
                        save_checkpoint(step.initialization, job.checkpoint)
                    except SaveError as error:
                        say(f"warning: {error}; training goes on")
        except BaseException:
            if first and step:
                with suppress(SaveError):
                    _keep(step, job)
            raise
    assert step is not None
    if first and step.done < step.meta_steps:
        _keep(step, job)
    elif first:
        finish(job, step.initialization)
    if step.done < step.meta_steps:
        raise SystemExit(128 + (signals or [signal.SIGTERM])[0])
    return str(job.output)


def _keep(step: MetaStep | NumberStep, job: Job) -> None:
    """Saves where the training stands, and says how it goes on."""
    from fewshot_sdk.artifacts.initialization import save_checkpoint

    save_checkpoint(step.initialization, job.checkpoint)
    say(f"stopped after {step.done} of {step.meta_steps} outer steps, kept in {job.checkpoint}; --resume continues")


def finish(job: Job, init: AnyInitialization) -> None:
    """Saves what the training ended in, and says what comes next."""
    _save_or_rescue(init, job.output)
    job.checkpoint.unlink(missing_ok=True)
    support = "points.csv" if job.of_numbers else "DIR"
    say(f"wrote {job.output}; next: fewshot adapt --init {job.output} --support {support} --output MODEL")


class Curve:
    """The metrics of a training, measured now and then on classes it does not train on."""

    def __init__(self, job: Job, recipe: Recipe, start: Initialization | None) -> None:
        import fewshot_sdk
        from fewshot_sdk.data.datasets import held_out

        meta = recipe.meta
        every = job.evaluate_every
        self.every = max(meta.meta_steps // CURVE_POINTS, LEAST_APART) if every is None else every
        self.metrics = list(start.metrics) if start else []
        if self.every:
            data = fewshot_sdk.open_dataset(recipe.data, recipe.preprocessing, held_out(recipe.data), job.root)
            self.tasks = fewshot_sdk.TaskSampler(data=data, n_way=meta.n_way, k_shot=1, n_query=1, seed=job.seed)

    def add(self, step: MetaStep, workers: Workers) -> None:
        """Measures, if it is time to; in a team, each member a share of the tasks."""
        from fewshot_sdk.config.records import Metric
        from fewshot_sdk.engine.workers import peak_memory
        from fewshot_sdk.meta.evaluation import evaluate

        if not self.every or (step.done % self.every and step.done < step.meta_steps):
            return
        found = evaluate(step.initialization, self.tasks, n_tasks=CURVE_TASKS, mode="transductive", workers=workers)
        metric = Metric(
            meta_steps=step.done,
            seconds=step.initialization.provenance.seconds,
            memory_mb=peak_memory(workers),
            loss=step.loss,
            **found.model_dump(include={"accuracy", "ci95", "tasks", "ways"}),
        )
        self.metrics.append(metric)

    def measured(self, steps: Iterator[MetaStep], workers: Workers) -> Iterator[MetaStep]:
        """The steps, their initializations with the metrics up to each."""
        for step in steps:
            self.add(step, workers)
            yield replace(step, initialization=replace(step.initialization, metrics=tuple(self.metrics)))


def _save_or_rescue(init: AnyInitialization, output: Path) -> None:
    """Save; if that disk refuses, keep the hours of training in the temporary folder instead."""
    from fewshot_sdk.storage.plots import curve

    files = init.files()
    try:
        if init.metrics:
            files["curve.png"] = curve({init.recipe.preset: init.metrics})
    except MissingExtra as error:
        say(f"no curve.png: {error}")
    try:
        write_folder(output, files)
    except (OutputExists, SaveError) as error:
        elsewhere = Path(tempfile.mkdtemp(prefix="fewshot-")) / output.name
        write_folder(elsewhere, files)
        raise SaveError(f"{error}; what was trained is kept in {elsewhere}") from None
