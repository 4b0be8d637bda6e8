"""From a classifier to one self-contained ONNX file, checked against PyTorch before it is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from fewshot_sdk.classifier import Classifier
from fewshot_sdk.errors import ExportError
from fewshot_sdk.files import check_free_file, write_file
from fewshot_sdk.images import Pixels
from fewshot_sdk.records import OnnxMetadata, Parity
from fewshot_sdk.runtime import FORMAT, INPUT, METADATA_KEY, OUTPUT, Predictor
from fewshot_sdk.version import versions

OPSET = 20
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Export:
    """A file that was exported: where, how many bytes, and what it says of itself."""

    path: Path
    size: int
    metadata: OnnxMetadata


class _Probabilities(nn.Module):
    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return (logits / self.temperature).softmax(1)


def export_onnx(classifier: Classifier, path: str | Path) -> Export:
    """Write a classifier as one ONNX file: `images` uint8 (batch, height, width, channels) in,
    `probabilities` float32 (batch, n_way) out; labels, preprocessing and origin in its metadata.

    The file is kept only if onnxruntime and PyTorch agree on every support image, together and
    alone: the same label, and no probability more than 1e-4 apart. A classifier that keeps no
    pictures is checked on noise.
    Raises ExportError if they do not, OutputExists if `path` exists, SaveError if the disk refuses.
    """
    path = Path(path)
    check_free_file(path)
    graph = _graph(classifier)
    parity = _parity(classifier, _with_metadata(graph, classifier, Parity(images=1, max_difference=0)))
    data = _with_metadata(graph, classifier, parity)
    write_file(path, data)
    return Export(path=path, size=len(data), metadata=Predictor(data).metadata)


def _graph(classifier: Classifier) -> onnx.ModelProto:
    images = torch.from_numpy(_checked_on(classifier)[:2])  # a batch of one would be fixed to one
    if len(images) < 2:
        raise ExportError("a support set of one image cannot be exported; adapt to two classes or more")
    chatter = io.StringIO()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(chatter):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Probabilities(classifier.network(), classifier.config.temperature).eval(),
                (images,),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    if program is None:
        raise ExportError("PyTorch gave no ONNX graph; check the versions of torch and onnxscript")
    graph: onnx.ModelProto = program.model_proto
    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    if opsets.get("") != OPSET:
        raise ExportError(f"expected ONNX opset {OPSET}, PyTorch wrote {opsets}; check the versions")
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _with_metadata(graph: onnx.ModelProto, classifier: Classifier, parity: Parity) -> bytes:
    config = classifier.config
    metadata = OnnxMetadata(
        format=FORMAT,
        labels=config.labels,
        preprocessing=config.preprocessing,
        adaptation=config.adaptation,
        initialization=config.initialization,
        opset=OPSET,
        parity=parity,
        versions={**versions(), "onnx": onnx.__version__},
        threshold=config.threshold,
    )
    onnx.helper.set_model_props(graph, {METADATA_KEY: metadata.model_dump_json()})
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def _checked_on(classifier: Classifier) -> Pixels:
    images = classifier.support.images
    return images if len(images) else np.random.default_rng(0).integers(0, 256, (8, *images.shape[1:]), np.uint8)


def _parity(classifier: Classifier, data: bytes) -> Parity:
    """Raises ExportError unless onnxruntime repeats PyTorch's answers on the support images."""
    images = _checked_on(classifier)
    wanted = classifier.probabilities(images)
    predictor = Predictor(data)
    alone = [predictor.probabilities(images[i : i + 1]) for i in range(len(images))]
    worst = 0.0
    for found in (predictor.probabilities(images), np.concatenate(alone)):
        difference = np.abs(found - wanted).max(1)
        worst = max(worst, float(difference.max()))
        margin = np.sort(wanted, 1)[:, -1] - np.sort(wanted, 1)[:, -2]
        swapped = (found.argmax(1) != wanted.argmax(1)) & (margin > 1e-3)
        if not worst <= TOLERANCE or swapped.any():
            row = int(difference.argmax())
            targets = classifier.support.targets
            which = f"support image {row} ({classifier.labels[targets[row]]})" if len(targets) else "noise"
            raise ExportError(
                f"onnxruntime and PyTorch disagree on {which}: a probability differs by {worst:.2g}, "
                f"allowed {TOLERANCE:.0e}; no file was written"
            )
    return Parity(images=len(images), max_difference=worst)
