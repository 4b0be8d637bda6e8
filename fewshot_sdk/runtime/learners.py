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
from fewshot_sdk.config.records import Origin, origin_of
from fewshot_sdk.errors import ParamsMismatch
from fewshot_sdk.graphs.learner.graph import learner_graph
from fewshot_sdk.graphs.versions import OPSET, at_versions
from fewshot_sdk.storage.bundles import INITIALIZATION, WEIGHTS, settings_of
from fewshot_sdk.storage.files import MAX_FILE_BYTES, read_bounded, sha256
from fewshot_sdk.storage.repositories import Opened, open_named
from fewshot_sdk.version import versions

TAKING_PART = ("numpy", "pillow", "onnx", "onnxruntime")  # packages
Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Start:
    """What an inner loop starts from; see `graphs.learner.graph.State`."""

    params: Arrays
    second_moments: Arrays
    updates: int


def learner_file(init: str | Path) -> bytes:
    """The bytes of the learner file at a path, or of one made by `learner_of`. Raises BundleError, and as that does."""
    return read_bounded(Path(init), MAX_FILE_BYTES) if Path(init).is_file() else learner_of(init)


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
    origin = origin_of(config, sha256(b"".join(opened.files[name] for name in WEIGHTS)), opened.source)
    return with_metadata(graph, config.recipe, origin, Parity(images=0, max_difference=0), 0, versions(TAKING_PART))


def with_metadata(
    graph: onnx.ModelProto, recipe: Recipe, origin: Origin, parity: Parity, floor: float, used: Mapping[str, str],
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
        versions={**used, "onnx": onnx.__version__},
    )
    onnx.helper.set_model_props(graph, {METADATA_KEY: metadata.model_dump_json()})
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def _start(opened: Opened) -> Start:
    from fewshot_sdk.storage.tensors import from_bytes  # safetensors: adapting from a file needs none

    model, inner = (from_bytes(opened.files[name], str(opened.folder / name)) for name in WEIGHTS)
    updates = inner.pop("updates", np.array(0))
    return Start(params=model, second_moments=inner, updates=int(updates))


def _check_shapes(graph: onnx.ModelProto, params: Arrays) -> None:
    """Raises ValueError for a tensor of another shape than the adapted classifier's of that name."""
    for output in graph.graph.output:
        sides = tuple(side.dim_value for side in output.type.tensor_type.shape.dim)
        if all(sides) and params.get(output.name, np.empty(sides)).shape != sides:
            raise ValueError(f"{output.name}: expected {list(sides)}, found {list(params[output.name].shape)}")
