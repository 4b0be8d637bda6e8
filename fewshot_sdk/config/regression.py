"""Regression, on numbers instead of pictures: its settings, presets and records."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fewshot_sdk.algorithms import ALGORITHMS, check_fits, known, moved_by
from fewshot_sdk.config.recipe import Config, Count, InnerLoop, Listed, MetaLoop
from fewshot_sdk.config.records import BundleConfig, Origin, Provenance
from fewshot_sdk.errors import ConfigError

REGRESSOR_FILE: Literal["fewshot-sdk onnx regressor 1"] = "fewshot-sdk onnx regressor 1"
Column = Annotated[str, Field(min_length=1, max_length=60)]
Columns = Annotated[Listed[Column], Field(min_length=1, max_length=1000)]
SquaredError = Annotated[float, Field(ge=0)]


class Perceptron(Config):
    """Fully connected layers with tanh after each, then one output."""

    widths: Annotated[Listed[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=1, max_length=8)] = Field(
        (64, 64), description="Units of each layer."
    )


class Regression(Config):
    """All settings of a preset for numbers: enough to train an initialization again, and to use it.

    The loss is the mean squared error; for the tasks see `data.waves`.
    """

    preset: str = Field(description="Name of the recipe, by which cards call what it makes.")
    data: Literal["sine"] = Field(description="Tasks of meta-training: waves a sin(x + b).")
    inputs: Columns = Field(("x",), description="Columns of a table to learn from.")
    output: Column = Field("y", description="Column to predict.")
    network: Perceptron = Field(description="The network, from the inputs to the output.")
    inner: InnerLoop = Field(description="The gradient steps inside each task of meta-training.")
    adaptation: InnerLoop = Field(description="The gradient steps on a new task.")
    meta: MetaLoop = Field(description="The outer loop, across tasks.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.meta.meta_steps == 0:
            raise ConfigError("meta.meta_steps: expected 1 or more, found 0")
        check_fits(self.meta.algorithm, self.inner.optimizer, self.inner.trainable)
        if self.adaptation.optimizer != self.inner.optimizer:
            raise ConfigError(f"adaptation: the optimizer must be the inner loop's, {self.inner.optimizer}")
        return self


class Fit(Config):
    """The mean squared error of an initialization over whole waves, each after `steps` steps on `points` of its points.

    ci95: the half-width of its 95 % interval over the waves.
    """

    data: Literal["sine"]
    mean_squared_error: SquaredError
    ci95: SquaredError
    waves: Count
    points: Count
    steps: Annotated[int, Field(ge=0)]
    seed: int

    @property
    def task(self) -> tuple[int, int]:
        """What was measured: a later result with the same value replaces this one on a card."""
        return self.points, self.steps


class RegressionConfig(BundleConfig):
    """The config.json of an initialization for numbers. bundled: as in `InitializationConfig`."""

    bundled: Annotated[str, Field(exclude_if=lambda text: not text)] = ""
    recipe: Regression
    provenance: Provenance
    evaluations: Listed[Fit]


class RegressorConfig(BundleConfig):
    """The config.json of an adapted initialization for numbers.

    points: how many it learned from. before, after: the mean squared error on these points before any step and after
    all; held_out: cross-validated, on each fold of the points after adapting to the others.
    """

    inputs: Columns
    output: Column
    network: Perceptron
    adaptation: InnerLoop
    seed: int
    initialization: Origin
    versions: dict[str, str]
    points: Count
    before: SquaredError
    after: SquaredError
    held_out: SquaredError


class NumberParity(Config):
    """How much ONNX and PyTorch differ: the largest difference on `points` of its own and `random` generated inputs.

    batches: the batch sizes that were tried.
    """

    points: Annotated[int, Field(ge=0)]
    random: Annotated[int, Field(ge=0)] = 0
    batches: Listed[Count] = ()
    max_difference: Annotated[float, Field(ge=0)] = 0.0


class NumberMetadata(Config):
    """The metadata of an exported regressor, as JSON under `fewshot_sdk` in its metadata_props."""

    format: Literal["fewshot-sdk onnx regressor 1"]
    inputs: Columns
    output: Column
    adaptation: InnerLoop
    initialization: Origin
    opset: int
    parity: NumberParity
    versions: dict[str, str]


_TAIL = 10  # points kept for the last inner step, of the 25 of each half of a task
_ON_TEN_POINTS = InnerLoop(optimizer="sgd", learning_rate=0.02, batch_size=10, steps=5)

NUMBER_PRESETS: dict[str, Regression] = {
    # Source: Nichol et al. 2018, section 2, except the outer step size: starting at the paper's 0.1, 30,000 outer steps
    # gave a mean squared error of 0.14 over 200 waves, starting at 1 of 0.02. A task is 2 x 25 points, each seen once.
    "sine": Regression(
        preset="sine",
        data="sine",
        network=Perceptron(),
        inner=_ON_TEN_POINTS,
        adaptation=_ON_TEN_POINTS.replace(steps=32),
        meta=MetaLoop(meta_steps=30_000, tasks_per_step=1, n_way=2, k_shot=25),
    ),
}


def by_algorithm(recipe: Regression, name: str) -> Regression:
    """The recipe with another meta-learning algorithm; data, network, inner loop and the number of tasks stay.

    The MAML family keeps 20 of a task's 50 points for the last inner step, and uses Adam as the outer optimizer.
    Raises ConfigError for protonet, and, listing the known algorithms, for an unknown name.
    """
    algorithm = known(name)
    row, changes = ALGORITHMS[algorithm], dict[str, object](algorithm=algorithm)
    if not row.takes_steps:
        raise ConfigError(f"{algorithm} needs classes, and {recipe.preset} has none; take another algorithm")
    if row.outer is not None:
        changes |= {"optimizer": row.outer, "step_size": row.step_size, "final_step_size": 0.0}
    if row.keeps_half:
        changes["tail_shots"] = _TAIL
    inner, adaptation = (loop.replace(trainable=moved_by(algorithm)) for loop in (recipe.inner, recipe.adaptation))
    return recipe.replace(inner=inner, adaptation=adaptation, meta=recipe.meta.replace(**changes))
