"""Adapting an initialization for numbers to a few points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from fewshot_sdk.artifacts.initialization import NumberInitialization
from fewshot_sdk.artifacts.regressor import Floats, Regressor, outputs_of
from fewshot_sdk.config.regression import RegressorConfig
from fewshot_sdk.data.tasks import Seed, mini_batches
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.inner_loop import fine_tune, one_thread
from fewshot_sdk.errors import ConfigError, SupportError, TrainingDiverged
from fewshot_sdk.images.tables import read_numbers
from fewshot_sdk.nets.params import Params
from fewshot_sdk.nets.perceptrons import perceptron
from fewshot_sdk.storage.bundles import REGRESSOR
from fewshot_sdk.storage.plots import across, picture

LEAST, PARTS = 2, 10  # points; parts to hold out in turn


def adapt_regressor(
    init: NumberInitialization, support: Floats | str | Path, *, steps: int | None = None, seed: int = 0
) -> Regressor:
    """Adapt `init` to a few points; the regressor records its errors on them.

    support: a CSV with the recipe's columns, or float32 (n, inputs + 1), the output last; two points or more.
    steps: None takes the recipe's. The error on held-out points is over up to ten parts, each predicted from the rest.
    Raises SupportError for unusable points, TrainingDiverged if a loss or an output is not finite.
    """
    recipe = init.recipe
    columns = (*recipe.inputs, recipe.output)
    points = support if isinstance(support, np.ndarray) else read_numbers(Path(support), columns, LEAST)
    if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] != len(columns) or len(points) < LEAST:
        wanted = f"float32 ({LEAST} or more, {len(columns)}): {', '.join(columns)}"
        raise SupportError(f"points: expected {wanted}, found {points.dtype} {points.shape}")
    if not np.isfinite(points).all():
        raise SupportError("points: expected finite numbers, found some that are not")
    if steps is not None and steps < 0:
        raise ConfigError(f"steps: expected 0 or more, found {steps}")
    count = recipe.adaptation.steps if steps is None else steps
    network = perceptron(recipe.network, len(recipe.inputs))
    before = init.state.params
    with one_thread():
        after = fitted(network, init, points, count, (seed,))
        held_out = []
        for part in np.array_split(np.random.default_rng((seed, 2)).permutation(len(points)), min(PARTS, len(points))):
            rest = fitted(network, init, np.delete(points, part, 0), count, (seed,))
            held_out.append(squared_errors(network, rest, points[part]))
        errors = [float(squared_errors(network, params, points).mean()) for params in (before, after)]
    config = RegressorConfig(
        format=REGRESSOR.name,
        inputs=recipe.inputs,
        output=recipe.output,
        network=recipe.network,
        adaptation=recipe.adaptation.replace(steps=count),
        seed=seed,
        initialization=init.origin,
        versions=made_with("processor"),
        points=len(points),
        before=errors[0],
        after=errors[1],
        held_out=float(np.concatenate(held_out).mean()),
    )
    return Regressor(config=config, params=after, points=points)


def fitted(network: nn.Module, init: NumberInitialization, points: Floats, steps: int, seed: Seed) -> Params:
    """The weights after this many of the recipe's steps on the mean squared error over points, (n, inputs + 1).

    Raises TrainingDiverged if a loss, or an output for one of the points, is not finite.
    """
    x, y = torch.from_numpy(points[:, :-1]), torch.from_numpy(points[:, -1:])
    batches = mini_batches(len(points), init.recipe.adaptation.batch_size, steps, seed)
    end, losses = fine_tune(network, init.state, x, y, batches, init.recipe.adaptation, F.mse_loss)
    if not (torch.isfinite(losses).all() and np.isfinite(outputs_of(network, end.params, points[:, :-1])).all()):
        raise TrainingDiverged(
            "a loss or an output is not finite after adapting to these points; try fewer --steps, or points like those "
            "of meta-training"
        )
    return end.params


def drawn(init: NumberInitialization, made: Regressor) -> bytes | None:
    """A plot of the points and the curves before and after the steps, as a PNG; None for several inputs.

    Raises MissingExtra where matplotlib is not installed.
    """
    if len(made.inputs) > 1:
        return None
    x, before = across(made.points), replace(made, params=init.state.params)
    after = f"after {made.config.adaptation.steps} steps"
    curves = {"before any step": before.predict(x), after: made.predict(x)}
    return picture(made.points, curves, (made.inputs[0], made.output))


def squared_errors(network: nn.Module, params: Params, points: Floats) -> NDArray[np.float64]:
    """Squared error of each point: (n, inputs + 1) -> (n,)."""
    return np.square(outputs_of(network, params, points[:, :-1]).astype(np.float64) - points[:, -1])
