"""Meta-training and evaluating initializations for numbers, on waves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch.nn.functional as F

from fewshot_sdk.adaptation.regressor import fitted, squared_errors
from fewshot_sdk.artifacts.initialization import NumberInitialization, fresh_for_numbers
from fewshot_sdk.artifacts.states import resumed_outer
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.config.regression import Fit, Regression
from fewshot_sdk.data.tasks import Task
from fewshot_sdk.data.waves import wave
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.intervals import interval
from fewshot_sdk.meta.outer_loop import Position, Setup
from fewshot_sdk.meta.own_networks import NetworkStep, meta_train_network
from fewshot_sdk.meta.training import MetaStep, check_continues
from fewshot_sdk.nets.perceptrons import perceptron
from fewshot_sdk.storage.files import sha256

NumberStep: TypeAlias = MetaStep[Regression, Fit]
_NEVER_TRAINED_ON = 10**9  # added to the seed of the waves for evaluation
POINTS, HASHED = 10, 10


def meta_train_on_numbers(
    recipe: Regression,
    *,
    seed: int = 0,
    start: NumberInitialization | None = None,
    workers: Workers | None = None,
    command: str = "meta_train_on_numbers(...)",
) -> Iterator[NumberStep]:
    """Yields one MetaStep for each of `recipe.meta.meta_steps`, as `training.meta_train` does for pictures.

    Same recipe and seed: same bits, also when continuing from an earlier step, `start`, and with any number of workers.
    Raises ConfigError, naming what differs, if `start` is from another training run; TrainingDiverged.
    """
    provenance = Provenance(
        command=command,
        seed=seed,
        meta_steps_done=0,
        data_sha256=sha256(b"".join(_bytes(wave(index, seed)) for index in range(HASHED))),
        seconds=0,
        versions=made_with("processor"),
    )
    init = start or fresh_for_numbers(recipe, provenance)
    check_continues(init, recipe, provenance)
    network = perceptron(recipe.network, len(recipe.inputs))
    network.load_state_dict(init.state.params)
    setup = Setup(network=network, task=lambda index: wave(index, seed), inner=recipe.inner, meta=recipe.meta)
    done = init.provenance.meta_steps_done
    at = Position(state=init.state, memory=resumed_outer(init.outer, init.state, recipe.meta, done))
    steps = meta_train_network(
        network,
        setup.task,
        inner=recipe.inner,
        meta=recipe.meta,
        loss=F.mse_loss,
        start=NetworkStep(done=done, loss=0.0, setup=setup, position=at),
        workers=workers,
    )
    seconds, began = init.provenance.seconds, time.monotonic()
    for step in steps:
        seconds += time.monotonic() - began
        made = provenance.replace(meta_steps_done=step.done, seconds=round(seconds, 1))
        yield NumberStep(
            done=step.done,
            meta_steps=recipe.meta.meta_steps,
            loss=step.loss,
            initialization=NumberInitialization(
                recipe=recipe, state=step.position.state, provenance=made, outer=step.position.memory
            ),
        )
        began = time.monotonic()  # the time the caller takes between two steps is not training


def wave_errors(init: NumberInitialization, *, n_waves: int, n_points: int = POINTS, seed: int = 0) -> Iterator[float]:
    """Yields the mean squared error on each of some waves never trained on, after the recipe's steps on a few points.

    The points are drawn between -5 and 5; the error is over 50 evenly spaced points.
    Source: Nichol et al. 2018, section 2.
    """
    network = perceptron(init.recipe.network, len(init.recipe.inputs))
    for index in range(n_waves):
        task = wave(index, _NEVER_TRAINED_ON + seed, n_points)
        points = np.hstack([task.query, task.query_labels])
        with one_thread():
            params = fitted(network, init, points[:n_points], init.recipe.adaptation.steps, task.seed)
            yield float(squared_errors(network, params, points[n_points:]).mean())


def summarized(values: list[float], init: NumberInitialization, n_points: int, seed: int) -> Fit:
    """The mean of these errors and its 95 % interval, as a record."""
    error, half = interval(values)
    return Fit(
        data=init.recipe.data,
        mean_squared_error=error,
        ci95=half,
        waves=len(values),
        points=n_points,
        steps=init.recipe.adaptation.steps,
        seed=seed,
    )


def _bytes(task: Task) -> bytes:
    return task.support.numpy().tobytes() + task.support_labels.numpy().tobytes()
