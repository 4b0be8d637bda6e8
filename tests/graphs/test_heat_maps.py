"""The nodes of heat maps, on any layers; tests/export/test_classifier.py tests them in whole files."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from fewshot_sdk.config.backbones import Backbone, EfficientNet, Residual
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.heat_maps import heat_map
from fewshot_sdk.graphs.nodes import Nodes, value
from fewshot_sdk.nets import heat_maps as nets
from fewshot_sdk.nets.heat_maps import layer_shapes
from fewshot_sdk.nets.network import build_network


@pytest.mark.parametrize(
    "backbone",
    [
        EfficientNet(),
        EfficientNet(summary="roots"),
        EfficientNet(summary="statistics"),
        Residual(widths=(8, 12), summary="statistics"),
    ],
)
def test_from_the_layers_of_a_network_they_compute_what_pytorch_does(backbone: Backbone) -> None:
    preprocessing = Preprocessing(height=48, width=80, channels=3, resize="bilinear", mean=(0.5,) * 3)
    torch.manual_seed(0)
    network = build_network(backbone, preprocessing, 3).eval().requires_grad_(False)
    images = torch.randint(0, 256, (2, 48, 80, 3), dtype=torch.uint8)
    layers, _ = nets.summarized(network, images)
    maps, logits = nets.heat_maps(network, images, temperature=3)
    shapes, g = layer_shapes(backbone, preprocessing), Nodes()
    names = [f"layer{i}" for i in range(len(layers))]
    head = network.get_parameter("head.weight").numpy()
    found = heat_map(g, names, shapes, "label", g.constant(head), head.mean(0), backbone, 3)
    g.output(found, "heat_map")
    inputs = [value(name, np.float32, "batch", *shape) for name, shape in zip(names, shapes, strict=True)]
    model = g.model([*inputs, value("label", np.int64, "batch")], [value("heat_map", np.float32, "batch", "h", "w")])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {name: layer.numpy() for name, layer in zip(names, layers, strict=True)}
    (ours,) = session.run(["heat_map"], {**given, "label": logits.argmax(1).numpy()})
    np.testing.assert_allclose(ours, maps.numpy(), atol=1e-5 * float(maps.abs().max()))
