"""8 bits: what is kept of the 32."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from fewshot_sdk import Classifier, load
from fewshot_sdk.config.onnx_file import OUTPUT, PIXELS
from fewshot_sdk.config.recipe import EfficientNet, Preprocessing
from fewshot_sdk.config.records import ClassifierConfig, Origin, Provenance
from fewshot_sdk.export.int8 import Shown, in_int8, keep_means
from fewshot_sdk.graphs.classifier import network_graph
from fewshot_sdk.graphs.nodes import Nodes, value
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.runtime.predictor import normalized
from fewshot_sdk.storage.bundles import CLASSIFIER
from tests.conftest import tiny_recipe

COLOUR = Preprocessing(height=64, width=64, channels=3, resize="bicubic", fit="stretch", mean=(0.5,), std=(0.5,))
NOWHERE = Provenance(command="none", seed=0, meta_steps_done=0, data_sha256="", seconds=0, versions={})


def shown(classifier: Classifier) -> Shown:
    config = classifier.config
    return Shown(images=classifier.support.images, preprocessing=config.preprocessing, kind=config.backbone.kind)


def classifier_of(summary: Literal["mean", "roots", "statistics"]) -> Classifier:
    """The bundled network with a head of ones, and pictures of a few large patches."""
    backbone, labels = EfficientNet(summary=summary), ("a", "b", "c")
    with torch.device("meta"):
        shape = build_network(backbone, COLOUR, len(labels)).get_parameter("head.weight").shape
    head = {"head.weight": torch.ones(shape), "head.bias": torch.zeros(len(labels))}
    params = {**load("photo").state.params, **head}
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 3, 3, 3), np.uint8).repeat(22, 1).repeat(22, 2)[:, :64, :64]
    config = ClassifierConfig(
        format=CLASSIFIER.name,
        labels=labels,
        preprocessing=COLOUR,
        backbone=backbone,
        adaptation=tiny_recipe().adaptation,
        seed=0,
        initialization=Origin(name="none", sha256="", provenance=NOWHERE),
        versions={},
    )
    support = SupportSet(labels=labels, images=images, targets=np.arange(12) % 3)
    return Classifier(config=config, params=params, support=support)


def in_32_bits(classifier: Classifier) -> onnx.ModelProto:
    tensors = {name: tensor.numpy() for name, tensor in classifier.params.items()}
    return network_graph(tensors, classifier.config.backbone, COLOUR)


def test_rounding_the_weights_leaves_each_filters_mean_output_as_it_was() -> None:
    classifier, rng, g = classifier_of("mean"), np.random.default_rng(1), Nodes()
    kernels = [rng.normal(size=shape).astype(np.float32) for shape in ((8, 3, 1, 1), (8, 1, 1, 1), (6, 4, 1, 1))]
    x = PIXELS
    for kernel, groups in zip(kernels, (1, 8, 2), strict=True):
        x = g("Conv", x, g.constant(kernel), g.constant(rng.normal(size=len(kernel))), group=groups)
    g.output(x, OUTPUT)
    model = g.model([value(PIXELS, np.float32, "n", 3, 64, 64)], [value(OUTPUT, np.float32, "n", 6, 64, 64)])
    expected = means(model, classifier)
    keep_means(model, shown(classifier))
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            kernel = onnx.numpy_helper.to_array(tensor)
            step = np.abs(kernel).max((1, 2, 3), keepdims=True) / 64
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.round(kernel / step) * step, tensor.name))
    np.testing.assert_allclose(means(model, classifier), expected, atol=1e-5)


def means(model: onnx.ModelProto, classifier: Classifier) -> NDArray[np.float64]:
    """The mean output of each filter over the support pictures."""
    pixels = normalized(classifier.support.images, COLOUR)
    found = InferenceSession(model.SerializeToString()).run([OUTPUT], {PIXELS: pixels})[0]
    averages: NDArray[np.float64] = np.asarray(found, np.float64).mean((0, 2, 3))
    return averages


def test_convolutions_are_computed_in_8_bits_and_the_summary_and_the_head_in_32(tmp_path: Path) -> None:
    classifier = classifier_of("statistics")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file is for this machine alone
    InferenceSession(in_int8(in_32_bits(classifier), shown(classifier)).SerializeToString(), options)
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert operators.count("QLinearConv") == 1 + 1 + 2 + 15 * 3
    assert not {"Conv", "Clip", "QGemm", "QLinearGlobalAveragePool"} & set(operators)
    assert {"Gemm", "GlobalAveragePool"} & set(operators)
