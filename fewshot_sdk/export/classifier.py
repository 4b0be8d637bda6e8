"""Export of a classifier to one self-contained ONNX file, checked against PyTorch before it is kept."""

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
from fewshot_sdk.config.recipe import Rows
from fewshot_sdk.config.settings import Config
from fewshot_sdk.errors import ConfigError, ParityError
from fewshot_sdk.export.checks import Precision, Speed, check_heat_maps, check_parity, compare
from fewshot_sdk.export.int8 import Shown, in_int8
from fewshot_sdk.graphs.classifier import network_graph, with_head, with_preprocessing
from fewshot_sdk.graphs.versions import OLDEST_WRITTEN, OPSET, at_versions, check_versions
from fewshot_sdk.nets.heat_maps import layer_shapes
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.storage.files import check_free_file, write_file
from fewshot_sdk.tables import referred
from fewshot_sdk.version import versions

# the `exporter` of a row of `BACKBONES`; takes a network, the height and width of its pictures, and an opset
Exporter = Callable[[nn.Module, tuple[int, int], int], onnx.ModelProto]
MAX_DROP = 0.01


@dataclass(frozen=True, kw_only=True)
class Export:
    """An exported file: its path, its size in bytes and its metadata.

    speed: beside the fp32 file's, for reduced precision only.
    """

    path: Path
    size: int
    metadata: OnnxMetadata
    speed: Speed | None = None


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How a classifier is exported; see `export_onnx`."""

    opset: int = OPSET
    ir_version: int | None = None
    precision: Precision = "fp32"
    raw: bool = False
    max_drop: float = MAX_DROP
    heat_map: bool = False


def export_onnx(
    classifier: Classifier, path: str | Path, *,
    opset: int = OPSET, ir_version: int | None = None, precision: Precision = "fp32", raw: bool = False,
    max_drop: float = MAX_DROP, heat_map: bool = False,
) -> Export:  # fmt: skip
    """Write a classifier as one ONNX file, kept only if onnxruntime agrees with PyTorch: see `checks.check_parity`.

    Its input is `images`, uint8 (batch, height, width, 3), of any size; its outputs are `label` int64 (batch,),
    `probabilities` float32 (batch, n_way) and `known` bool (batch,), false for `unknown`.
    For a classifier of features the input is `features` instead, float32 (batch, columns).
    opset, ir_version: ONNX's versions; None is the lowest IR version for the opset.
    raw: the input is `pixels` instead, float32 (batch, channels, height, width), preprocessed and normalized.
    precision: `fp16` stores and computes 16 bits, `int8` 8, calibrated on the support set; such a file is kept only if
    the share of support pictures that fp32 gets right and it gets wrong is at most `max_drop`.
    heat_map: one more output, `heat_map` float32 (batch, h, w): what each position adds to the logit of `label`, above
    the mean logit of all classes, at the classifier's temperature (see `nets.heat_maps`).
    Raises ParityError if it is not kept, ConfigError for an opset outside 15 to 23 or an IR version that does not
    go with it, for reduced precision without support pictures, or for a heat map of a network that has none,
    ExportError for a timm network that an old opset cannot express, OutputExists if `path` exists, SaveError if the
    disk refuses.
    """
    settings = ExportSettings(
        opset=opset, ir_version=ir_version, precision=precision, raw=raw, max_drop=max_drop, heat_map=heat_map
    )
    return write_onnx(classifier, Path(path), settings)


def write_onnx(classifier: Classifier, path: Path, settings: ExportSettings) -> Export:
    """`export_onnx`, as the table of formats calls it."""
    precision, raw = settings.precision, settings.raw
    check_free_file(path)
    check_versions(settings.opset, settings.ir_version)
    opset = max(settings.opset, OLDEST_WRITTEN)
    config, preprocessing = classifier.config, classifier.config.preprocessing
    rows = isinstance(preprocessing, Rows)
    if rows and (precision != "fp32" or raw):
        raise ConfigError(
            "a classifier of features is one small layer, exported in fp32 with nothing in front; leave out "
            "--precision and --raw"
        )
    if precision != "fp32" and not len(classifier.support.images):
        raise ConfigError(
            f"{precision} is checked on the support pictures, and this classifier has none; adapt again, or use fp32"
        )
    shapes = layer_shapes(config.backbone, preprocessing) if settings.heat_map else ()
    exporter = BACKBONES[config.backbone.kind].exporter
    if precision != "fp32" and exporter:
        raise ConfigError(
            f"a {config.backbone.kind} model can only be exported in fp32, found {precision}; leave out --precision"
        )

    def serialized(network: onnx.ModelProto, **changes: object) -> bytes:
        metadata = OnnxMetadata(
            format=FORMAT,
            labels=config.labels,
            preprocessing=preprocessing,
            adaptation=config.adaptation,
            initialization=config.initialization,
            opset=settings.opset,
            parity=Parity(images=0, max_difference=0),
            versions={**versions(), "onnx": onnx.__version__},
            threshold=config.threshold,
            least_score=config.least_score,
            score=config.score,
            raw=raw,
            edits=config.edits,
        )
        graph = network if raw or rows else with_preprocessing(network, preprocessing)
        graph = at_versions(graph, settings.opset, settings.ir_version)
        return with_metadata(graph, metadata.replace(**changes))

    tensors = {name: tensor.numpy() for name, tensor in classifier.params.items()}
    cosine = classifier.cosine(config.temperature)

    body = None
    if exporter:
        sides = preprocessing.height, preprocessing.width
        body = cast("Exporter", referred(exporter))(classifier.network(), sides, opset)

    def network(half: bool = False) -> onnx.ModelProto:
        if body is not None:
            return with_head(
                body, tensors, temperature=config.temperature, threshold=config.threshold,
                least_score=config.least_score, cosine=cosine, opset=opset,
            )  # fmt: skip
        return network_graph(
            tensors, config.backbone, preprocessing, temperature=config.temperature, threshold=config.threshold,
            least_score=config.least_score, cosine=cosine, half=half, opset=opset, heat_map_of=shapes,
        )  # fmt: skip

    predictor = Predictor(serialized(network()))
    parity = check_parity(classifier, predictor.probabilities, prepared=raw)
    if settings.heat_map:
        check_heat_maps(classifier, predictor.heat_maps, prepared=raw)
    data = serialized(network(), parity=parity)
    speed = None
    if precision != "fp32":
        shown = Shown(images=classifier.support.images, preprocessing=preprocessing, kind=config.backbone.kind)
        reduced = network(half=True) if precision == "fp16" else in_int8(network(), shown)
        draft = serialized(reduced, parity=parity, precision=precision)
        reduction, speed = compare(classifier, data, draft)
        if reduction.lost > settings.max_drop:
            raise ParityError(
                f"{precision} gets {reduction.lost:.1%} of {reduction.images} support pictures wrong that fp32 gets "
                f"right; at most {settings.max_drop:.1%} is allowed (--max-drop); no file was written"
            )
        data = serialized(reduced, parity=parity, precision=precision, reduction=reduction)
    write_file(path, data)
    return Export(path=path, size=len(data), metadata=Predictor(data).metadata, speed=speed)


def with_metadata(graph: onnx.ModelProto, metadata: Config) -> bytes:
    """The bytes of an ONNX file: a graph with its metadata."""
    onnx.helper.set_model_props(graph, {METADATA_KEY: metadata.model_dump_json()})
    data: bytes = graph.SerializeToString(deterministic=True)
    return data
