"""Classifiers of fewer bits, and what they cost: 8 bits by onnxruntime's static quantization."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.config.onnx_file import Reduction
from fewshot_sdk.runtime.predictor import PIXELS, Predictor, normalized

Precision: TypeAlias = Literal["fp32", "fp16", "int8"]
ROUNDS = 15


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Milliseconds for one picture on one thread, and bytes, of a file and of its like in 32 bits."""

    milliseconds: float
    milliseconds_fp32: float
    bytes: int
    bytes_fp32: int


def in_int8(network: onnx.ModelProto, classifier: Classifier) -> onnx.ModelProto:
    """The network with 8-bit weights for each filter and 8-bit activations, their ranges seen on the support set.

    The weights use 7 of the bits: x86 processors without VNNI add pairs of products in 16 bits, which 8 by 8 overflow,
    silently. Source: onnxruntime's documentation of quantization, "reduce_range".
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(classifier)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._batches, None)

    _own_biases(network)
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preparation that these graphs do not need
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target = Path(folder) / "int8.onnx"
            quantize_static(
                network, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=True,
                op_types_to_quantize=["Conv", "MaxPool", "Relu", "Add", "GlobalAveragePool", "Gemm"],
            )  # fmt: skip
            return onnx.load(str(target))
    finally:
        logging.getLogger().setLevel(level)


def _own_biases(network: onnx.ModelProto) -> None:
    """Gives each convolution a bias of its own: onnxruntime computes one that shares another's, such as the zeros

    of an untrained network, in 32 bits, for its step would have to fit inputs of different ranges.
    """
    held = {tensor.name: tensor for tensor in network.graph.initializer}
    taken: set[str] = set()
    for node in network.graph.node:
        if node.op_type == "Conv" and node.input[2] in taken:
            own = network.graph.initializer.add()
            own.CopyFrom(held[node.input[2]])
            own.name = node.input[2] = f"{node.output[0]}_bias"
        elif node.op_type == "Conv":
            taken.add(node.input[2])


def compare(classifier: Classifier, whole: bytes, fewer: bytes) -> tuple[Reduction, Speed]:
    """What fewer bits change on the support set, and how fast both files are, measured by turns."""
    support, targets = classifier.support.images, classifier.support.targets
    ours, theirs = Predictor(fewer), Predictor(whole)
    found, wanted = ours.probabilities(support), theirs.probabilities(support)
    right = wanted.argmax(1) == targets
    lost = right & (found.argmax(1) != targets)
    limit = ours.metadata.threshold
    same = (found.argmax(1) == wanted.argmax(1)) & ((found.max(1) >= limit) == (wanted.max(1) >= limit))
    reduction = Reduction(
        images=len(support), lost=float(lost.mean()), agreed=float(same.mean()),
        max_difference=float(np.abs(found - wanted).max()),
    )  # fmt: skip
    times: dict[Predictor, list[float]] = {ours: [], theirs: []}
    for _ in range(ROUNDS):
        for predictor, taken in times.items():
            began = time.perf_counter()
            predictor.probabilities(support[:1])
            taken.append(1000 * (time.perf_counter() - began))
    return reduction, Speed(
        milliseconds=statistics.median(times[ours]), milliseconds_fp32=statistics.median(times[theirs]),
        bytes=len(fewer), bytes_fp32=len(whole),
    )  # fmt: skip


def _batches(classifier: Classifier) -> Iterator[dict[str, NDArray[np.float32]]]:
    images = classifier.support.images
    for i in range(0, len(images), 64):
        yield {PIXELS: normalized(images[i : i + 64], classifier.config.preprocessing)}
