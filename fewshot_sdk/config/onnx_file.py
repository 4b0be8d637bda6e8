"""The metadata of exported ONNX files, and the names of their tensors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fewshot_sdk.config.edits import Edit
from fewshot_sdk.config.labels import Labels
from fewshot_sdk.config.recipe import (
    AnyPreprocessing,
    Backbone,
    Config,
    Count,
    Fraction,
    InnerLoop,
    Listed,
    Preprocessing,
)
from fewshot_sdk.config.records import Origin, Score

METADATA_KEY = "fewshot_sdk"
FORMAT, LEARNER = "fewshot-sdk onnx 2", "fewshot-sdk learner 1"
INPUT, PIXELS = "images", "pixels"  # the input: pictures of any size, or with --raw the network's floats
FEATURES = "features"  # the input for rows of numbers; elsewhere between a network's body and its head
LABEL, OUTPUT, KNOWN = "label", "probabilities", "known"
THRESHOLD = "threshold"  # an optional input: the probability below which a picture is unknown, float32, a scalar
LEAST_SCORE = "least_score"  # an input of the graph that serves many deltas
HEAT_MAP = "heat_map"  # one more output, with --heat-map


class Parity(Config):
    """How much ONNX and PyTorch differ: the largest difference of a probability over `images` and `random_images`.

    images: pictures of the support set; random_images: generated ones; batches: the batch sizes that were tried.
    """

    images: Annotated[int, Field(ge=0)]
    max_difference: Annotated[float, Field(ge=0)]
    random_images: Annotated[int, Field(ge=0)] = 0
    batches: Listed[Count] = ()


class Reduction(Config):
    """What lower precision costs: the exported file against the float32 file, on the support set.

    lost: the share of pictures that float32 classifies correctly and the exported file does not; agreed: the share
    that get the same answer; max_difference: the largest difference of a probability.
    """

    images: Count
    lost: Fraction
    agreed: Fraction
    max_difference: Annotated[float, Field(ge=0)]


class OnnxMetadata(Config):
    """The metadata of an exported classifier, as JSON under `fewshot_sdk` in its metadata_props.

    threshold, least_score, score: for `unknown`, see `ClassifierConfig`; they and the temperature are in the graph,
    which says whether a picture is `known`. The threshold is the default of an optional input.
    parity: of the float32 file with PyTorch; reduction: what lower precision changed; raw: the input is the network's
    floats. edits: what was changed after training, the latest last; parity and reduction are from before.
    """

    format: str
    labels: Labels
    preprocessing: AnyPreprocessing
    adaptation: InnerLoop
    initialization: Origin
    opset: int
    parity: Parity
    versions: dict[str, str]
    threshold: Fraction = 0.0
    least_score: Annotated[float | None, Field(exclude_if=lambda least: least is None)] = None
    score: Annotated[Score, Field(exclude_if=lambda score: score == "logit")] = "logit"
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    reduction: Reduction | None = None
    raw: bool = False
    edits: Annotated[Listed[Edit], Field(exclude_if=lambda edits: not edits)] = ()


class LearnerMetadata(Config):
    """The metadata of a learner file, as JSON under `fewshot_sdk` in its metadata_props.

    n_way: the number of classes of a dense head; None for any number.
    parity: the largest difference from PyTorch in float64; noise_floor: the same for PyTorch in float32, on the same
    tasks.
    """

    format: Literal["fewshot-sdk learner 1"]
    n_way: int | None
    preprocessing: Preprocessing
    backbone: Backbone
    adaptation: InnerLoop
    initialization: Origin
    opset: int
    parity: Parity
    noise_floor: Annotated[float, Field(ge=0)]
    versions: dict[str, str]
