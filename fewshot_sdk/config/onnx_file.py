"""What an exported ONNX file says of itself, and the names of its tensors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fewshot_sdk.config.recipe import Backbone, Config, Count, Fraction, InnerLoop, Listed, Preprocessing
from fewshot_sdk.config.records import Origin

METADATA_KEY = "fewshot_sdk"
FORMAT, LEARNER = "fewshot-sdk onnx 2", "fewshot-sdk learner 1"
INPUT, PIXELS = "images", "pixels"  # what a file takes: pictures of any size, or with --raw the network's floats
FEATURES = "features"  # between a network's body and its head
LABEL, OUTPUT, KNOWN = "label", "probabilities", "known"


class Parity(Config):
    """How far ONNX and PyTorch are apart: the largest difference of a probability over `images` and `random_images`.

    batches: how many were judged at once.
    """

    images: Annotated[int, Field(ge=0)]
    max_difference: Annotated[float, Field(ge=0)]
    random_images: Annotated[int, Field(ge=0)] = 0
    batches: Listed[Count] = ()


class Reduction(Config):
    """What fewer bits cost, on the support set against the file of 32 bits.

    lost: the share of pictures that 32 bits name rightly and fewer do not; agreed: that get the same answer;
    max_difference: of a probability.
    """

    images: Count
    lost: Fraction
    agreed: Fraction
    max_difference: Annotated[float, Field(ge=0)]


class OnnxMetadata(Config):
    """What an exported file says of itself, as JSON under `fewshot_sdk` in its metadata_props.

    threshold: the highest probability under which a picture is `unknown`; the temperature is in the graph.
    parity: of 32 bits with PyTorch; reduction: what fewer bits changed; raw: the input is the network's floats.
    """

    format: str
    labels: Listed[str]
    preprocessing: Preprocessing
    adaptation: InnerLoop
    initialization: Origin
    opset: int
    parity: Parity
    versions: dict[str, str]
    threshold: Fraction = 0.0
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    reduction: Reduction | None = None
    raw: bool = False


class LearnerMetadata(Config):
    """What a learner file says of itself, as JSON under `fewshot_sdk` in its metadata_props.

    n_way: the number of classes of a dense head; None for any number.
    parity: the largest difference to PyTorch in float64; noise_floor: that of PyTorch in float32, on the same tasks.
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
