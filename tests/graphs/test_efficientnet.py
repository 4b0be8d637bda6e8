"""EfficientNet-Lite's nodes say what PyTorch says, whatever the summary, the size and the precision."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession

from fewshot_sdk.config.onnx_file import OUTPUT, PIXELS
from fewshot_sdk.config.recipe import EfficientNet, Preprocessing
from fewshot_sdk.graphs.classifier import network_graph
from fewshot_sdk.nets.network import build_network
from tests.nets.test_efficientnet import even_weights

SMALL = Preprocessing(height=32, width=32, channels=3, resize="bicubic", fit="stretch", mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize(("half", "allowed"), [(False, 1e-5), (True, 2e-2)], ids=["float32", "float16"])
@pytest.mark.parametrize("summary", ["mean", "roots", "statistics"])
def test_the_nodes_say_what_pytorch_says(
    summary: Literal["mean", "roots", "statistics"], half: bool, allowed: float
) -> None:
    check(SMALL, summary, half, allowed)


@pytest.mark.parametrize(("height", "width"), [(33, 47), (45, 32)])
def test_padding_is_right_at_odd_sizes(height: int, width: int) -> None:
    check(SMALL.replace(height=height, width=width), "mean", False, 1e-5)


def check(
    preprocessing: Preprocessing, summary: Literal["mean", "roots", "statistics"], half: bool, allowed: float
) -> None:
    backbone = EfficientNet(summary=summary)
    network = build_network(backbone, preprocessing, 3).eval()
    network.load_state_dict(even_weights(network))
    shape = (4, preprocessing.height, preprocessing.width, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).softmax(1).numpy()
        pixels = network.get_submodule("pixels")(images).numpy()
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    graph = network_graph(weights, backbone, preprocessing, half=half)
    found = InferenceSession(graph.SerializeToString()).run([OUTPUT], {PIXELS: pixels})[0]
    assert np.ptp(expected, axis=0).max() > 1e-2  # the pictures differ
    np.testing.assert_allclose(found, expected, atol=allowed)
