"""Learners made from an initialization's files, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.config.onnx_file import METADATA_KEY, LearnerMetadata, Parity
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.records import InitializationConfig, Origin
from fewshot_sdk.errors import ParamsMismatch
from fewshot_sdk.graphs.learner.graph import learner_graph
from fewshot_sdk.graphs.versions import OPSET, at_versions
from fewshot_sdk.storage.bundles import INITIALIZATION, WEIGHTS, settings_of
from fewshot_sdk.storage.files import sha256
from fewshot_sdk.storage.repositories import Opened, open_named
from fewshot_sdk.storage.tensors import from_bytes

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Start:
    """What an inner loop starts from; see `graphs.learner.graph.State`."""

    params: Arrays
    second_moments: Arrays
    updates: int


def learner_of(name: str | Path) -> bytes:
    """The learner of an initialization: a bundled one, a folder, or user/repo on the Hub.

    It is the graph that `export_learner` writes, to the byte, but nothing compares it with PyTorch: its metadata says
    that parity was measured on 0 images.
    Raises BundleError if there is no such initialization or it was changed, HubError if the Hub refuses,
    ParamsMismatch if its tensors do not fit its settings, ExportError if its network cannot be a learner.
    """
    opened = open_named(name)
    config = settings_of(opened.files, opened.folder, INITIALIZATION)
    start = _start(opened)
    try:
        graph = at_versions(learner_graph(config.recipe, start), OPSET)
        _check_shapes(graph, start.params)
    except (KeyError, ValueError) as error:
        raise ParamsMismatch(
            f"{opened.folder}: its tensors do not fit its settings ({error}); was it made with other settings?"
        ) from None
    return with_metadata(graph, config.recipe, _origin(config, opened), Parity(images=0, max_difference=0), 0, {})


def with_metadata(
    graph: onnx.ModelProto, recipe: Recipe, origin: Origin, parity: Parity, floor: float, versions: Mapping[str, str],
    opset: int = OPSET,
) -> bytes:  # fmt: skip
    """The bytes of a learner's file: its graph, and its settings and origin in the metadata."""
    metadata = LearnerMetadata(
        format="fewshot-sdk learner 1",
        n_way=recipe.meta.n_way if recipe.head == "dense" else None,
        preprocessing=recipe.preprocessing,
        backbone=recipe.backbone,
        adaptation=recipe.adaptation.replace(steps=0) if recipe.head == "prototype" else recipe.adaptation,
        initialization=origin,
        opset=opset,
        parity=parity,
        noise_floor=floor,
        versions={**versions, "onnx": onnx.__version__},
    )
    onnx.helper.set_model_props(graph, {METADATA_KEY: metadata.model_dump_json()})
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def _start(opened: Opened) -> Start:
    model, inner = (from_bytes(opened.files[name], str(opened.folder / name)) for name in WEIGHTS)
    updates = inner.pop("updates", np.array(0))
    return Start(params=model, second_moments=inner, updates=int(updates))


def _check_shapes(graph: onnx.ModelProto, params: Arrays) -> None:
    """Raises ValueError for a tensor of another shape than the adapted classifier's of that name."""
    for output in graph.graph.output:
        sides = tuple(side.dim_value for side in output.type.tensor_type.shape.dim)
        if all(sides) and params.get(output.name, np.empty(sides)).shape != sides:
            raise ValueError(f"{output.name}: expected {list(sides)}, found {list(params[output.name].shape)}")


def _origin(config: InitializationConfig, opened: Opened) -> Origin:
    """The record of the initialization, as of `Initialization.origin`."""
    own = config.recipe.data.own
    return Origin(
        name=config.bundled or config.recipe.preset,
        sha256=sha256(b"".join(opened.files[name] for name in WEIGHTS)),
        provenance=config.provenance,
        data=str(config.recipe.data),
        source=opened.source,
        classes=own.train if own else (),
    )
