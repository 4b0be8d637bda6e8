"""From a classifier to one self-contained ONNX file, checked against PyTorch before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import onnx
from torch import nn

from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.config.backbones import BACKBONES
from fewshot_sdk.config.onnx_file import FORMAT, METADATA_KEY, OnnxMetadata, Parity
from fewshot_sdk.config.settings import Config
from fewshot_sdk.errors import ConfigError, ParityError
from fewshot_sdk.export.checks import Precision, Speed, check_parity, compare, in_int8
from fewshot_sdk.graphs.classifier import network_graph, with_head, with_preprocessing
from fewshot_sdk.graphs.nodes import OPSET
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.storage.files import check_free_file, write_file
from fewshot_sdk.tables import referred
from fewshot_sdk.version import versions

# what `BACKBONES` refers to by `exporter`: of a network, its pictures' height and width and an opset
Exporter = Callable[[nn.Module, tuple[int, int], int], onnx.ModelProto]
OPSETS = (18, 23)
MAX_DROP = 0.01


@dataclass(frozen=True, kw_only=True)
class Export:
    """A file that was exported: where, how many bytes, and what it says of itself.

    speed: against the file of 32 bits, if this one has fewer.
    """

    path: Path
    size: int
    metadata: OnnxMetadata
    speed: Speed | None = None


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How a classifier is exported; see `export_onnx`."""

    opset: int = OPSET
    precision: Precision = "fp32"
    raw: bool = False
    max_drop: float = MAX_DROP


def export_onnx(
    classifier: Classifier, path: str | Path, *,
    opset: int = OPSET, precision: Precision = "fp32", raw: bool = False, max_drop: float = MAX_DROP,
) -> Export:  # fmt: skip
    """Write a classifier as one ONNX file: `images` uint8 (batch, height, width, 3) of any size in; out come `label`
    int64 (batch,), `probabilities` float32 (batch, n_way) and `known` bool (batch,), false under the threshold.

    raw: the input is `pixels` instead, float32 (batch, channels, height, width), preprocessed and normalized.
    The file is kept only if onnxruntime says what PyTorch says: see `checks.check_parity`. precision: `fp16` keeps
    and computes 16 bits, `int8` 8, calibrated on the support set; they are kept if the share of support pictures
    that only 32 bits name rightly is at most `max_drop`.
    Raises ParityError otherwise, ConfigError for an opset outside 18 to 23 or fewer bits without support pictures,
    OutputExists if `path` exists, SaveError if the disk refuses.
    """
    settings = ExportSettings(opset=opset, precision=precision, raw=raw, max_drop=max_drop)
    return write_onnx(classifier, Path(path), settings)


def write_onnx(classifier: Classifier, path: Path, settings: ExportSettings) -> Export:
    """`export_onnx`, as the table of formats calls it."""
    opset, precision, raw = settings.opset, settings.precision, settings.raw
    check_free_file(path)
    check_opset(opset)
    config, seen = classifier.config, classifier.config.preprocessing
    if precision != "fp32" and not len(classifier.support.images):
        raise ConfigError(
            f"{precision} is judged on the support pictures, and this classifier keeps none; adapt again, or take fp32"
        )
    exporter = BACKBONES[config.backbone.kind].exporter
    if precision != "fp32" and exporter:
        raise ConfigError(
            f"a {config.backbone.kind} model is exported in fp32 alone, found {precision}; leave --precision out"
        )

    def described(network: onnx.ModelProto, **changes: object) -> bytes:
        metadata = OnnxMetadata(
            format=FORMAT,
            labels=config.labels,
            preprocessing=seen,
            adaptation=config.adaptation,
            initialization=config.initialization,
            opset=opset,
            parity=Parity(images=0, max_difference=0),
            versions={**versions(), "onnx": onnx.__version__},
            threshold=config.threshold,
            raw=raw,
        )
        return with_metadata(network if raw else with_preprocessing(network, seen), metadata.replace(**changes))

    tensors = {name: tensor.numpy() for name, tensor in classifier.params.items()}
    limits = {"temperature": config.temperature, "threshold": config.threshold}

    body = None
    if exporter:
        body = cast("Exporter", referred(exporter))(classifier.network(), (seen.height, seen.width), opset)

    def network(half: bool = False) -> onnx.ModelProto:
        if body is not None:
            return with_head(body, tensors, opset=opset, **limits)
        return network_graph(tensors, config.backbone, seen, half=half, opset=opset, **limits)

    parity = check_parity(classifier, Predictor(described(network())).probabilities, prepared=raw)
    data = described(network(), parity=parity)
    speed = None
    if precision != "fp32":
        fewer = network(half=True) if precision == "fp16" else in_int8(network(), classifier)
        draft = described(fewer, parity=parity, precision=precision)
        reduction, speed = compare(classifier, data, draft)
        if reduction.lost > settings.max_drop:
            raise ParityError(
                f"{precision} loses {reduction.lost:.1%} of {reduction.images} support pictures that fp32 names "
                f"rightly, allowed are {settings.max_drop:.1%} (--max-drop); no file was written"
            )
        data = described(fewer, parity=parity, precision=precision, reduction=reduction)
    write_file(path, data)
    return Export(path=path, size=len(data), metadata=Predictor(data).metadata, speed=speed)


def check_opset(opset: int) -> None:
    """Raises ConfigError outside 18 to 23."""
    first, last = OPSETS
    if not first <= opset <= last:
        raise ConfigError(f"opset: expected {first} to {last}, found {opset}")


def with_metadata(graph: onnx.ModelProto, metadata: Config) -> bytes:
    """The file's bytes: a graph that says of itself what it is."""
    onnx.helper.set_model_props(graph, {METADATA_KEY: metadata.model_dump_json()})
    data: bytes = graph.SerializeToString(deterministic=True)
    return data
