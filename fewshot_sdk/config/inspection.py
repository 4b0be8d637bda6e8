"""What is asked of an inspector, which learns from good pictures alone, and what is written down about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fewshot_sdk.config.recipe import Backbone, Config, Count, Fraction, Listed, Preprocessing
from fewshot_sdk.config.records import BundleConfig, Origin

INSPECTOR_FILE = "fewshot-sdk onnx inspector 1"
GOOD, NOT_GOOD = "good", "not good"
SCORE = "score"  # an output of an exported inspector; besides there are `good` and `heat_map`
FARTHEST = 3.0  # a limit that no score reaches: they are means of distances from 0 to 2
Views = Literal["as taken", "turned", "shifted"]
NonNegative = Annotated[float, Field(ge=0)]


class PatchSettings(Config):
    """How pictures are compared, patch by patch.

    stages: of the network, whose outputs are concatenated on the finest one's grid; neighbourhood: the side of the
    square of positions over which they are averaged; memory: how many patches are kept at most; top: the score is the
    mean of so many largest distances; views: what is kept of each good picture: the picture, its quarter turns too, or
    the picture shifted as well.
    """

    stages: Annotated[Listed[int], Field(min_length=1, max_length=7)] = (3, 6)
    neighbourhood: Literal[1, 3, 5] = 1
    memory: Annotated[int, Field(ge=1, le=65_536)] = 2048
    top: Annotated[int, Field(ge=1, le=65_536)] = 8
    views: Views = "as taken"


class Inspection(Config):
    """How the limit was set, and what it costs on the pictures at hand.

    reject_rate: the share of good pictures that may be called not good. scores: of each good picture, left out of the
    memory; bad_scores: of the bad pictures, if there were any, which then set the limit. lost: the good pictures above
    the limit; missed: the bad ones that are not. told_apart: the area under the ROC curve of left-out good pictures
    against the same with a piece of them pasted elsewhere; None where there was nothing to leave out.
    """

    reject_rate: Fraction
    scores: Listed[NonNegative] = ()
    bad_scores: Listed[NonNegative] = ()
    lost: Annotated[int, Field(ge=0)] = 0
    missed: Annotated[int, Field(ge=0)] = 0
    told_apart: Fraction | None = None


class InspectorConfig(BundleConfig):
    """The config.json of an inspector.

    limit: the score above which a picture is not good; None: nothing is called so. good, bad: its numbers of pictures.
    """

    preprocessing: Preprocessing
    backbone: Backbone
    patches: PatchSettings
    limit: NonNegative | None
    good: Count
    bad: Annotated[int, Field(ge=0)] = 0
    inspection: Inspection
    initialization: Origin
    seed: int
    versions: dict[str, str]


class InspectionParity(Config):
    """How much ONNX and PyTorch differ: the largest difference of a score over `images` kept and `random` pictures."""

    images: Annotated[int, Field(ge=0)] = 0
    random: Annotated[int, Field(ge=0)] = 0
    max_difference: NonNegative = 0.0


class InspectionReduction(Config):
    """What lower precision costs: the largest difference of a score, and the share of pictures judged alike."""

    images: Count
    agreed: Fraction
    max_difference: NonNegative


class InspectionMetadata(Config):
    """The metadata of an exported inspector, as JSON under `fewshot_sdk` in its metadata_props.

    limit: the default of the optional input `threshold`; None: nothing is called not good, and the default is so high
    that no score reaches it. grid: rows and columns of the heat map.
    """

    format: Literal["fewshot-sdk onnx inspector 1"]
    preprocessing: Preprocessing
    limit: NonNegative | None
    reject_rate: Fraction
    good: Count
    grid: Annotated[Listed[Count], Field(min_length=2, max_length=2)]
    initialization: Origin
    opset: int
    parity: InspectionParity
    versions: dict[str, str]
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    reduction: InspectionReduction | None = None
