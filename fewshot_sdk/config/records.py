"""The records written to disk: results, origins, and the config.json of each kind of folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fewshot_sdk.config.edits import Edit
from fewshot_sdk.config.labels import Labels
from fewshot_sdk.config.provenance import Origin as Origin
from fewshot_sdk.config.provenance import Provenance as Provenance
from fewshot_sdk.config.provenance import Weights as Weights
from fewshot_sdk.config.recipe import (
    AnyPreprocessing,
    Backbone,
    Config,
    Count,
    Fraction,
    InnerLoop,
    Listed,
    Positive,
    Recipe,
)

Mode = Literal["transductive", "inductive", "frozen"]
Method = Literal["prototypes", "probe", "reptile"]
Baseline = Literal["prototypes", "probe", "random"]
Precision = Literal["float32", "float16", "int8"]
Score = Literal["logit", "cosine"]
_optional = Field(exclude_if=lambda found: found is None)  # absent from files written before the field existed
_if_any = Field(exclude_if=lambda text: not text)


class Evaluation(Config):
    """Accuracy over tasks: mean and half-width of its 95 % interval, as fractions.

    part: the classes of the data set that the tasks were drawn from.
    baseline: what was measured instead of the adapted initialization, on the same tasks: `prototypes`, class means of
    its features and no gradient step; `probe`, a linear probe on its features; or `random`, the same steps from fresh
    random weights in each task.
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
        """What was measured: a later result with the same value replaces this one on a card."""
        return self.data, self.ways, self.shots, self.baseline or "", self.mode


class Point(Config):
    """Mean accuracy over tasks after `steps` inner steps, and the half-width of its 95 % interval."""

    steps: Annotated[int, Field(ge=0)]
    accuracy: Fraction
    ci95: Annotated[float, Field(ge=0)]


class Rival(Config):
    """The result of one of several compared initializations.

    accuracy, ci95: after its recipe's inner steps; points: after fewer inner steps up to these.
    minutes, memory_mb: the cost of its meta-training (see `Metric`); memory_mb is None if it was not measured.
    """

    name: str
    accuracy: Fraction
    ci95: Annotated[float, Field(ge=0)]
    points: Listed[Point]
    minutes: Annotated[float, Field(ge=0)]
    memory_mb: Annotated[float, Field(ge=0)] | None = None


class Pair(Config):
    """Two initializations compared task by task, each after its recipe's steps.

    difference, ci95: the mean of `first - second` and the half-width of its 95 % interval; wins, losses, ties: the
    number of tasks in which the first is better, worse or equal.
    """

    first: str
    second: str
    difference: Annotated[float, Field(ge=-1, le=1)]
    ci95: Annotated[float, Field(ge=0)]
    wins: Annotated[int, Field(ge=0)]
    losses: Annotated[int, Field(ge=0)]
    ties: Annotated[int, Field(ge=0)]


class Comparison(Config):
    """Several initializations compared on the same tasks."""

    data: str
    ways: Count
    shots: Count
    tasks: Count
    mode: Mode
    seed: int
    rivals: Listed[Rival]
    pairs: Listed[Pair]


class Progress(Config):
    """One line of metrics.jsonl: how far meta-training is after `meta_steps` outer steps.

    seconds: spent on meta-training only; memory_mb: the sum of the peak resident sets so far of all processes that
    shared it, including PyTorch itself; loss: mean loss of the last inner mini-batch, cross-entropy in nats or squared
    error; tasks_per_second: since the line before; None if it was not measured.
    """

    meta_steps: Count
    seconds: Annotated[float, Field(ge=0)]
    memory_mb: Annotated[float, Field(ge=0)] | None = None
    loss: float
    tasks_per_second: Annotated[float, Field(ge=0)] | None = None


class Metric(Progress):
    """A line of metrics.jsonl with the accuracy on new classes: a point of the learning curve.

    accuracy and ci95: transductive, 1-shot, over `tasks` tasks of classes not trained on.
    """

    accuracy: Fraction
    ci95: Annotated[float, Field(ge=0)]
    tasks: Count
    ways: Count


class BundleConfig(Config):
    """A config.json: `format` names the kind of folder that it belongs to."""

    format: str


class InitializationConfig(BundleConfig):
    """The config.json of an initialization. bundled: the name under which it comes with the package, if it does."""

    bundled: Annotated[str, _if_any] = ""
    recipe: Recipe
    provenance: Provenance
    evaluations: Listed[Evaluation]


def origin_of(config: InitializationConfig, sha256: str, source: str = "") -> Origin:
    """The record of an initialization that is written into everything derived from it.

    sha256: of its weights and inner state; source: user/repo@commit if it came from the Hub.
    """
    own = config.recipe.data.own
    return Origin(
        name=config.bundled or config.recipe.preset,
        sha256=sha256,
        provenance=config.provenance,
        data=str(config.recipe.data),
        source=source,
        classes=own.train if own else (),
    )


class Trial(Config):
    """The result of one adaptation method in cross-validation on the support set.

    init: the name of the initialization; steps: gradient steps on the whole network;
    standard_error: of the accuracy, over the pictures. log_loss: the mean cross-entropy, in nats, at
    the fitted temperature; None in files written before this field existed. features, fit, rate: the summary of the
    features, how pictures were made to fit, and the learning rate, where several were compared.
    """

    method: Method
    init: str
    steps: Annotated[int, Field(ge=0)]
    accuracy: Fraction
    standard_error: Annotated[float, Field(ge=0)]
    log_loss: Annotated[float | None, Field(ge=0), _optional] = None
    features: Annotated[str, _if_any] = ""
    fit: Annotated[str, _if_any] = ""
    rate: Annotated[float | None, Field(gt=0, exclude_if=lambda found: found is None)] = None


class CurvePoint(Config):
    """Accuracy on held-out pictures after adapting to `shots` pictures of each class, and its 95 % interval."""

    shots: Count
    accuracy: Fraction
    low: Fraction
    high: Fraction


class Confusion(Config):
    """The two classes most often taken for one another: for `pictures` of the `of` held-out pictures of both."""

    first: str
    second: str
    pictures: Count
    of: Count


class Calibration(Config):
    """How good a classifier's answers are, by cross-validation on its support set.

    pictures: their number; each is held out at least once, in `folds` folds; accuracy: on them, without the answer
    `unknown`; guessing: the accuracy of always naming the commonest class.
    ece_before, ece: expected calibration error at temperature 1, and at temperatures fitted on the other folds.
    auroc: of the score that `unknown` is decided by as the score for a picture of a known class, where each class in
    turn is left out and serves as the unknown one; None for fewer than 3 classes. known_lost, unknown_rejected: the
    share of held-out pictures, and of pictures of left-out classes, that are `unknown`; known_lost_most: the share of
    known pictures that is lost at most, at 95 % confidence, for this number of held-out pictures.
    confused: None if no two classes are mixed up on more than one picture; curve: empty if it was not measured.
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
    known_lost_most: Annotated[Fraction | None, _optional] = None
    guessing: Annotated[Fraction | None, _optional] = None
    confused: Annotated[Confusion | None, _optional] = None
    curve: Annotated[Listed[CurvePoint], Field(exclude_if=lambda points: not points)] = ()


class ClassifierConfig(BundleConfig):
    """The config.json of an adapted classifier.

    temperature: the divisor of the logits, for probabilities. A picture is `unknown` if its score is below
    `least_score`, or its highest probability below `threshold`, which is 0 unless an edit set it, or the file was
    written before there was a score. score: `cosine`, see `nets.score`, or `logit`, the highest logit before that
    division.
    comparison: the trials that the method was chosen from; calibration: None if not cross-validated,
    or if classes were dropped since.
    edits: what was changed after training, the latest last; calibration and comparison are from before.
    """

    labels: Labels
    preprocessing: AnyPreprocessing
    backbone: Backbone
    adaptation: InnerLoop
    seed: int
    initialization: Origin
    versions: dict[str, str]
    method: Method = "reptile"
    temperature: Positive = 1.0
    threshold: Fraction = 0.0
    least_score: Annotated[float | None, _optional] = None
    score: Annotated[Score, Field(exclude_if=lambda score: score == "logit")] = "logit"
    comparison: Listed[Trial] = ()
    calibration: Calibration | None = None
    edits: Annotated[Listed[Edit], Field(exclude_if=lambda edits: not edits)] = ()


class DeltaConfig(ClassifierConfig):
    """The config.json of an adapted classifier that is stored as its difference from the initialization."""

    precision: Precision
