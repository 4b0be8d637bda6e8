"""The shapes of a network's features, and of the layers that they summarize, from its graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx

from fewshot_sdk.config.backbones import BACKBONES, Backbone
from fewshot_sdk.config.onnx_file import FEATURES, PIXELS
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.classifier import Features
from fewshot_sdk.graphs.heat_maps import Shape
from fewshot_sdk.graphs.nodes import Nodes, value
from fewshot_sdk.graphs.weights import Params
from fewshot_sdk.tables import referred


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """The number of features; channels, height and width of each summarized layer, in the features' order."""

    n_features: int
    layers: tuple[Shape, ...]


def shapes_of(params: Params, backbone: Backbone, preprocessing: Preprocessing) -> Shapes:
    """The shapes in a network with these weights, of which only the shapes matter, without PyTorch."""
    g, sizes = Nodes(), (preprocessing.channels, preprocessing.height, preprocessing.width)
    inputs = {PIXELS: value(PIXELS, np.float32, 1, *sizes)}

    def tensor(name: str, dimensions: int = 1) -> str:  # noqa: ARG001
        shape = np.shape(params[name]) if name in params else np.shape(params[name.replace(".bias", ".weight")])[:1]
        inputs[name] = value(name, np.float32, *shape)
        return name

    nodes = cast("Features", referred(BACKBONES[backbone.kind].graph))
    g.output(g("Flatten", nodes(g, PIXELS, tensor, backbone, preprocessing, np.float32)), FEATURES)
    model = onnx.shape_inference.infer_shapes(g.model([*inputs.values()], [value(FEATURES, np.float32, 1, "n")]))
    found = {
        known.name: tuple(side.dim_value for side in known.type.tensor_type.shape.dim)
        for known in (*model.graph.value_info, *model.graph.output)
    }
    layers = tuple((found[x][1], found[x][2], found[x][3]) for x in g.summarized if len(found[x]) == 4)
    (flat,) = [node.input[0] for node in model.graph.node if node.output[0] == FEATURES]
    return Shapes(n_features=found[flat][1], layers=layers)
