"""Export of an inspector to one self-contained ONNX file, checked against PyTorch before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx

from fewshot_sdk.artifacts.inspector import FEW, Inspector
from fewshot_sdk.config.backbones import EfficientNet
from fewshot_sdk.config.inspection import InspectionMetadata, InspectionParity, InspectionReduction
from fewshot_sdk.data.collages import pasted
from fewshot_sdk.errors import ConfigError, ParityError
from fewshot_sdk.export.checks import TOLERANCE, Precision, made_up
from fewshot_sdk.export.classifier import MAX_DROP, with_metadata
from fewshot_sdk.export.int8 import Shown, in_int8
from fewshot_sdk.graphs.classifier import with_preprocessing
from fewshot_sdk.graphs.inspector import inspector_graph
from fewshot_sdk.graphs.versions import OLDEST_WRITTEN, OPSET, at_versions, check_versions
from fewshot_sdk.images.preprocessing import Pixels, preprocess
from fewshot_sdk.nets.patches import grid
from fewshot_sdk.runtime.inspector import InspectionPredictor
from fewshot_sdk.storage.files import check_free_file, write_file
from fewshot_sdk.version import versions

RANDOM, SHOWN = 50, 100  # random pictures; kept ones that are compared at most


@dataclass(frozen=True, kw_only=True)
class InspectorExport:
    """An exported file: its path, its size in bytes and its metadata."""

    path: Path
    size: int
    metadata: InspectionMetadata


def export_inspector(
    inspector: Inspector, path: str | Path, *,
    opset: int = OPSET, ir_version: int | None = None, precision: Precision = "fp32", max_drop: float = MAX_DROP,
) -> InspectorExport:  # fmt: skip
    """Write an inspector as one ONNX file, kept only if onnxruntime agrees with PyTorch.

    Its input is `images`, uint8 (batch, height, width, 3), of any size; its outputs are `good` bool (batch,), `score`
    float32 (batch,) and `heat_map` float32 (batch, h, w), the distance of each patch to the nearest one in memory. The
    optional input `threshold`, float32 (), takes the place of the limit.
    Scores and maps agree to 1e-4 on up to 100 of its pictures and on 50 random ones of many sizes.
    precision: `fp16`, `int8`: kept only if the share of its pictures that it judges otherwise is at most `max_drop`.
    Raises ParityError if it is not kept, ConfigError for versions that ONNX does not have or reduced precision without
    pictures, OutputExists if `path` exists, SaveError if the disk refuses.
    """
    path = Path(path)
    check_free_file(path)
    check_versions(opset, ir_version)
    config, preprocessing = inspector.config, inspector.preprocessing
    if precision != "fp32" and not len(inspector.pictures):
        raise ConfigError(
            f"{precision} is checked on the pictures, and this inspector kept none; adapt again, or use fp32"
        )
    metadata = InspectionMetadata(
        format="fewshot-sdk onnx inspector 1",
        preprocessing=preprocessing,
        limit=config.limit,
        reject_rate=config.inspection.reject_rate,
        good=config.good,
        grid=grid(config.backbone, preprocessing, config.patches),
        initialization=config.initialization,
        opset=opset,
        parity=InspectionParity(),
        versions={**versions(), "onnx": onnx.__version__},
    )

    def network(*, half: bool = False) -> onnx.ModelProto:
        tensors, parts = ({n: t.numpy() for n, t in part.items()} for part in (inspector.params, inspector.parts))
        backbone = cast("EfficientNet", config.backbone)
        return inspector_graph(
            tensors, parts, backbone, preprocessing, config.patches, limit=config.limit, half=half,
            opset=max(opset, OLDEST_WRITTEN),
        )  # fmt: skip

    def serialized(graph: onnx.ModelProto, **changes: object) -> bytes:
        graph = at_versions(with_preprocessing(graph, preprocessing), opset, ir_version)
        return with_metadata(graph, metadata.replace(**changes))

    parity = check_inspector(inspector, InspectionPredictor(serialized(network())))
    data = serialized(network(), parity=parity)
    if precision != "fp32":
        shown = Shown(images=inspector.pictures, preprocessing=preprocessing, kind=config.backbone.kind)
        reduced = network(half=True) if precision == "fp16" else in_int8(network(), shown)
        reduction = compared(inspector, InspectionPredictor(serialized(reduced, precision=precision)))
        if 1 - reduction.agreed > max_drop:
            raise ParityError(
                f"{precision} judges {1 - reduction.agreed:.1%} of {reduction.images} pictures otherwise than fp32; at "
                f"most {max_drop:.1%} is allowed (--max-drop); no file was written"
            )
        data = serialized(reduced, parity=parity, precision=precision, reduction=reduction)
    write_file(path, data)
    return InspectorExport(path=path, size=len(data), metadata=InspectionPredictor(data).metadata)


def check_inspector(inspector: Inspector, predictor: InspectionPredictor) -> InspectionParity:
    """Compare an export with PyTorch. Raises ParityError, naming the picture, as `export_inspector` says."""
    worst, kept = 0.0, inspector.pictures[:SHOWN]
    groups: list[tuple[Pixels, list[str]]] = [
        (kept[first : first + FEW], [f"picture {first + i}" for i in range(len(kept[first : first + FEW]))])
        for first in range(0, len(kept), FEW)
    ]
    for pictures, names in [*groups, *made_up(inspector.preprocessing, RANDOM)]:
        pixels = np.stack([preprocess(picture, inspector.preprocessing) for picture in pictures])
        pairs = (inspector.heat_maps(pixels), predictor.heat_maps(pictures)), (
            inspector.scores(pixels)[:, None, None], predictor.scores(pictures)[:, None, None],
        )  # fmt: skip
        for wanted, found in pairs:
            difference = (
                np.abs(found - wanted).max((1, 2)) if found.shape == wanted.shape else np.full(len(names), np.inf)
            )
            row = int(difference.argmax())
            if not difference[row] <= TOLERANCE:
                raise ParityError(
                    f"onnxruntime and PyTorch disagree on {names[row]}: a distance differs by {difference[row]:.2g}, "
                    f"allowed {TOLERANCE:.0e}; no file was written"
                )
            worst = max(worst, float(difference[row]))
    return InspectionParity(images=len(kept), random=RANDOM, max_difference=worst)


def compared(inspector: Inspector, reduced: InspectionPredictor) -> InspectionReduction:
    """What lower precision changes, on pictures of the inspector and on the same with a piece pasted elsewhere."""
    rng, kept = np.random.default_rng(0), inspector.pictures[:SHOWN]
    kept = np.concatenate([kept, np.stack([pasted(image, rng) for image in kept])])
    wanted, found = inspector.scores(kept), reduced.scores(kept)
    limit = np.inf if inspector.limit is None else np.float32(inspector.limit)
    return InspectionReduction(
        images=len(kept), agreed=float(((wanted <= limit) == (found <= limit)).mean()),
        max_difference=float(np.abs(wanted - found).max()),
    )  # fmt: skip
