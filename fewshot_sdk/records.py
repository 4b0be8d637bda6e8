"""What is written down of things made: results, origins, and the config.json of each kind of folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fewshot_sdk.config import Backbone, Config, Count, Fraction, InnerLoop, Listed, Preprocessing, Recipe

Mode = Literal["transductive", "inductive", "frozen"]


class Evaluation(Config):
    """Accuracy over tasks: mean and half-width of its 95 % interval, as fractions."""

    data: str
    data_sha256: str
    accuracy: Fraction
    ci95: Annotated[float, Field(ge=0)]
    tasks: Count
    ways: Count
    shots: Count
    mode: Mode
    seed: int


class Metric(Config):
    """One line of metrics.jsonl: how far meta-training was, and how well it did on new classes.

    seconds: of meta-training alone; loss: mean cross-entropy of the last inner mini-batch, in nats;
    accuracy and ci95: transductive, one shot, over `tasks` tasks of classes not trained on.
    """

    meta_steps: Count
    seconds: Annotated[float, Field(ge=0)]
    loss: float
    accuracy: Fraction
    ci95: Annotated[float, Field(ge=0)]
    tasks: Count
    ways: Count


class Provenance(Config):
    """How an initialization came to be. `command` repeats it; `data_sha256` names classes and pixels."""

    command: str
    seed: int
    meta_steps_done: Annotated[int, Field(ge=0)]
    data_sha256: str
    seconds: Annotated[float, Field(ge=0)]
    versions: dict[str, str]


class Origin(Config):
    """The initialization that a classifier was adapted from: its name, what it is, how it was made."""

    name: str
    sha256: str
    provenance: Provenance


class BundleConfig(Config):
    """A config.json: `format` says what kind of folder it lies in."""

    format: str


class InitializationConfig(BundleConfig):
    """The config.json of an initialization."""

    recipe: Recipe
    provenance: Provenance
    evaluations: Listed[Evaluation]


class ClassifierConfig(BundleConfig):
    """The config.json of an adapted classifier."""

    labels: Listed[str]
    preprocessing: Preprocessing
    backbone: Backbone
    adaptation: InnerLoop
    seed: int
    initialization: Origin
    versions: dict[str, str]


class Parity(Config):
    """How far ONNX and PyTorch are apart: the largest difference of a probability over `images`."""

    images: Count
    max_difference: Annotated[float, Field(ge=0)]


class OnnxMetadata(Config):
    """What an exported file says of itself, as JSON under `fewshot_sdk` in its metadata_props."""

    format: str
    labels: Listed[str]
    preprocessing: Preprocessing
    adaptation: InnerLoop
    initialization: Origin
    opset: int
    parity: Parity
    versions: dict[str, str]
