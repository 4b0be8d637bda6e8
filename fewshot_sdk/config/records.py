"""What is written down of things made: results, origins, and the config.json of each kind of folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fewshot_sdk.config.recipe import (
    Backbone,
    Config,
    Count,
    Fraction,
    InnerLoop,
    Listed,
    Positive,
    Preprocessing,
    Recipe,
)

Mode = Literal["transductive", "inductive", "frozen"]
Method = Literal["prototypes", "probe", "reptile"]
Baseline = Literal["prototypes", "probe", "random"]
Precision = Literal["float32", "float16", "int8"]


class Evaluation(Config):
    """Accuracy over tasks: mean and half-width of its 95 % interval, as fractions.

    part: which of the data's classes the tasks were of.
    baseline: what stood in for the initialization, on the same tasks: `prototypes`, class means of its features
    and no gradient step, `probe`, a linear probe on them, or `random`, fresh weights in each task and the same steps.
    """

    data: str
    data_sha256: str
    accuracy: Fraction
    ci95: Annotated[float, Field(ge=0)]
    tasks: Count
    ways: Count
    shots: Count
    mode: Mode
    seed: int
    part: Literal["train", "val", "test"] = "test"
    baseline: Baseline | None = None

    @property
    def task(self) -> tuple[str, int, int, str, str]:
        """What was measured: a later result on the same takes its place on a card."""
        return self.data, self.ways, self.shots, self.baseline or "", self.mode


class Point(Config):
    """Mean accuracy over tasks after some inner steps, with the half-width of its 95 % interval."""

    steps: Annotated[int, Field(ge=0)]
    accuracy: Fraction
    ci95: Annotated[float, Field(ge=0)]


class Rival(Config):
    """How one of several initializations did, after its recipe's steps and on the way there.

    minutes, memory_mb: what its meta-training took (see `Metric`); memory is None where it was not measured.
    """

    name: str
    accuracy: Fraction
    ci95: Annotated[float, Field(ge=0)]
    points: Listed[Point]
    minutes: Annotated[float, Field(ge=0)]
    memory_mb: Annotated[float, Field(ge=0)] | None = None


class Pair(Config):
    """Two of them task by task, each by its recipe's steps: the mean of `first - second`, the half-width of its
    95 % interval, and in how many tasks the first is ahead, behind or even.
    """

    first: str
    second: str
    difference: Annotated[float, Field(ge=-1, le=1)]
    ci95: Annotated[float, Field(ge=0)]
    wins: Annotated[int, Field(ge=0)]
    losses: Annotated[int, Field(ge=0)]
    ties: Annotated[int, Field(ge=0)]


class Comparison(Config):
    """Initializations on the same tasks."""

    data: str
    ways: Count
    shots: Count
    tasks: Count
    mode: Mode
    seed: int
    rivals: Listed[Rival]
    pairs: Listed[Pair]


class Metric(Config):
    """One line of metrics.jsonl: how far meta-training was, and how well it did on new classes.

    seconds: of meta-training alone; memory_mb: the largest resident sets so far of all processes that shared it,
    added up, PyTorch's own included; loss: mean cross-entropy of the last inner mini-batch, in nats;
    accuracy and ci95: transductive, one shot, over `tasks` tasks of classes not trained on.
    """

    meta_steps: Count
    seconds: Annotated[float, Field(ge=0)]
    memory_mb: Annotated[float, Field(ge=0)] | None = None
    loss: float
    accuracy: Fraction
    ci95: Annotated[float, Field(ge=0)]
    tasks: Count
    ways: Count


class Provenance(Config):
    """How an initialization came to be.

    `command` repeats it; `data_sha256` is of what its classes and pixels are made of, or of its first waves.
    """

    command: str
    seed: int
    meta_steps_done: Annotated[int, Field(ge=0)]
    data_sha256: str
    seconds: Annotated[float, Field(ge=0)]
    versions: dict[str, str]


class Origin(Config):
    """The initialization that a classifier was adapted from: its name, what it is, how it was made.

    data: the data set and split that `provenance.data_sha256` is of; source: user/repo@commit, if it came
    from the Hub.
    """

    name: str
    sha256: str
    provenance: Provenance
    data: str = ""
    source: str = ""


class BundleConfig(Config):
    """A config.json: `format` says what kind of folder it lies in."""

    format: str


class InitializationConfig(BundleConfig):
    """The config.json of an initialization."""

    recipe: Recipe
    provenance: Provenance
    evaluations: Listed[Evaluation]


class Trial(Config):
    """How a way to adapt did in cross-validation on the support set.

    init: name of the initialization; steps: of gradient descent on the whole network;
    standard_error: of the accuracy, over the pictures. log_loss: the mean cross-entropy, in nats, at
    the temperature that fits; None in what is older.
    """

    method: Method
    init: str
    steps: Annotated[int, Field(ge=0)]
    accuracy: Fraction
    standard_error: Annotated[float, Field(ge=0)]
    log_loss: Annotated[float | None, Field(ge=0, exclude_if=lambda found: found is None)] = None


class Calibration(Config):
    """What cross-validation on the support set says of a classifier's probabilities.

    pictures: held out once each, in `folds` parts; accuracy: on them, `unknown` not being an answer.
    ece_before, ece: expected calibration error at temperature 1, and at temperatures fitted on the other folds.
    auroc: of the highest probability as a sign that a picture is of a known class, where each class in turn
    is left out and plays the unknown; None under 3 classes. known_lost, unknown_rejected: shares under the
    threshold of held-out pictures, and of those of left-out classes.
    """

    reject_rate: Fraction
    pictures: Count
    folds: Count
    accuracy: Fraction
    standard_error: Annotated[float, Field(ge=0)]
    ece_before: Fraction
    ece: Fraction
    known_lost: Fraction
    auroc: Fraction | None = None
    unknown_rejected: Fraction | None = None


class ClassifierConfig(BundleConfig):
    """The config.json of an adapted classifier.

    temperature: what logits are divided by; threshold: the highest probability under which a picture
    is `unknown`. comparison: what the method was chosen from; calibration: None if not cross-validated.
    """

    labels: Listed[str]
    preprocessing: Preprocessing
    backbone: Backbone
    adaptation: InnerLoop
    seed: int
    initialization: Origin
    versions: dict[str, str]
    method: Method = "reptile"
    temperature: Positive = 1.0
    threshold: Fraction = 0.0
    comparison: Listed[Trial] = ()
    calibration: Calibration | None = None


class DeltaConfig(ClassifierConfig):
    """The config.json of an adapted classifier that is kept as its difference from the initialization."""

    precision: Precision
