"""A network in 8 bits: weights scaled filter by filter, activations scaled on the support set, means kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

from fewshot_sdk.config.backbones import BACKBONES
from fewshot_sdk.config.onnx_file import PIXELS, THRESHOLD
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.runtime.predictor import normalized
from fewshot_sdk.storage.drafts import scratch

_PIXELS_AT_ONCE = 64 * 84 * 84  # bounds the memory
_LEVELS = 64  # of a weight, on each side of 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """The pictures that tell which values a network computes: preprocessed, for a network of this kind."""

    images: Pixels
    preprocessing: Preprocessing
    kind: str


def in_int8(network: onnx.ModelProto, shown: Shown) -> onnx.ModelProto:
    """The network with 8-bit weights and 8-bit activations in the operators that its row in `BACKBONES` names.

    The weights use 7 of the bits: x86 processors without VNNI add pairs of products in 16 bits, which overflow silently
    with 8 by 8 bits. Source: onnxruntime's documentation of quantization, "reduce_range".
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(shown)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._batches, None)

    (threshold,) = [given for given in network.graph.input if given.name == THRESHOLD]
    network.graph.input.remove(threshold)  # meanwhile a constant: onnxruntime would warn of an optional input
    _own_biases(network)
    keep_means(network, shown)
    level = logging.getLogger().level
    logging.getLogger().setLevel(
        logging.ERROR
    )  # it recommends a preprocessing of the model that these graphs do not need
    try:
        with scratch() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target = folder / "int8.onnx"
            quantize_static(
                network, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=True,
                op_types_to_quantize=list(BACKBONES[shown.kind].quantized),
            )  # fmt: skip
            reduced = onnx.load(str(target))
            reduced.graph.input.append(threshold)
            return reduced
    finally:
        logging.getLogger().setLevel(level)


def _own_biases(network: onnx.ModelProto) -> None:
    """Give each convolution a bias of its own.

    onnxruntime leaves a convolution in 32 bits if its bias is shared, as the zeros of an untrained network are: a
    bias has one scale, which cannot fit inputs of different ranges.
    """
    tensors = {tensor.name: tensor for tensor in network.graph.initializer}
    used: set[str] = set()
    for node in network.graph.node:
        if node.op_type == "Conv" and node.input[2] in used:
            own = network.graph.initializer.add()
            own.CopyFrom(tensors[node.input[2]])
            own.name = node.input[2] = f"{node.output[0]}_bias"
        elif node.op_type == "Conv":
            used.add(node.input[2])


def keep_means(network: onnx.ModelProto, shown: Shown) -> None:
    """Add to each convolution's bias what rounding its weights takes from its mean output on the support set.

    Rounding errors of a filter add up to a shift of the whole image, most of all where few weights are added or the
    image is all one colour. Source: Nagel et al. 2019, section 4.2, with means that are measured.
    """
    tensors = {tensor.name: tensor for tensor in network.graph.initializer}
    means = _means(network, shown)
    for node in network.graph.node:
        if node.op_type != "Conv":
            continue
        kernel, bias = (numpy_helper.to_array(tensors[name]).astype(np.float64) for name in node.input[1:3])
        scale = np.abs(kernel).reshape(len(kernel), -1).max(1).reshape(-1, 1, 1, 1) / _LEVELS
        scale = np.where(scale > 0, scale, 1)
        error = (kernel - np.round(kernel / scale) * scale).sum((2, 3))  # (filters, channels in the group)
        groups = np.arange(len(kernel)) * (len(means[node.input[0]]) // error.shape[1]) // len(kernel)
        seen = means[node.input[0]].reshape(-1, error.shape[1])[groups]
        tensors[node.input[2]].CopyFrom(
            numpy_helper.from_array((bias + (error * seen).sum(1)).astype(np.float32), node.input[2])
        )


def _means(network: onnx.ModelProto, shown: Shown) -> dict[str, NDArray[np.float64]]:
    """The mean of each channel that enters a convolution, over the support set and over positions."""
    names = sorted({node.input[0] for node in network.graph.node if node.op_type == "Conv"})
    if not names:
        return {}
    measured = onnx.ModelProto()
    measured.CopyFrom(network)
    del measured.graph.output[:]
    measured.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3], np.int64), "mean_axes"))
    for name in names:
        measured.graph.node.append(helper.make_node("ReduceMean", [name, "mean_axes"], [f"{name}_mean"], keepdims=0))
        measured.graph.output.append(helper.make_tensor_value_info(f"{name}_mean", onnx.TensorProto.FLOAT, None))
    session = InferenceSession(measured.SerializeToString(), providers=["CPUExecutionProvider"])
    totals = {name: np.zeros(1) for name in names}
    for batch in _batches(shown):
        for name, found in zip(names, session.run([f"{name}_mean" for name in names], batch), strict=True):
            totals[name] = totals[name] + len(batch[PIXELS]) * np.asarray(found, np.float64)
    return {name: total / len(shown.images) for name, total in totals.items()}


def _batches(shown: Shown) -> Iterator[dict[str, NDArray[np.float32]]]:
    images, preprocessing = shown.images, shown.preprocessing
    at_once = min(64, max(1, _PIXELS_AT_ONCE // (preprocessing.height * preprocessing.width)))
    for i in range(0, len(images), at_once):
        yield {PIXELS: normalized(images[i : i + at_once], preprocessing)}
