"""A learner file made from an initialization, without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.config.onnx_file import METADATA_KEY, LearnerMetadata, Parity
from fewshot_sdk.config.records import InitializationConfig, origin_of
from fewshot_sdk.errors import ParamsMismatch
from fewshot_sdk.graphs.learner.graph import learner_graph
from fewshot_sdk.graphs.nodes import OPSET
from fewshot_sdk.storage.bundles import INITIALIZATION, WEIGHTS, settings_of
from fewshot_sdk.storage.files import MAX_FILE_BYTES, read_bounded, sha256
from fewshot_sdk.storage.repositories import Opened, open_named
from fewshot_sdk.version import versions

TAKING_PART = ("numpy", "pillow", "onnx", "onnxruntime")  # packages


@dataclass(frozen=True, kw_only=True, eq=False)
class _State:
    params: dict[str, NDArray[np.float32]]
    second_moments: dict[str, NDArray[np.float32]]
    updates: int


def learner_file(init: str | Path) -> bytes:
    """The bytes of a learner file: those at a path, or one made from an initialization, by the name that `load` takes.

    One made here is the graph that `export_learner` writes, but nothing compared it with PyTorch, and its metadata say
    so. Raises what `load` and `export_learner` raise, but for the comparison.
    """
    if Path(init).is_file():
        return read_bounded(Path(init), MAX_FILE_BYTES)
    opened = open_named(init)
    config = settings_of(opened.files, opened.folder, INITIALIZATION)
    try:
        graph = learner_graph(config.recipe, _state(opened))
    except (LookupError, ValueError) as error:
        raise ParamsMismatch(f"{opened.folder}: its tensors are not those of its network ({error})") from None
    metadata = _metadata(config, sha256(b"".join(opened.files[name] for name in WEIGHTS)), opened.source)
    onnx.helper.set_model_props(graph, {METADATA_KEY: metadata.model_dump_json()})
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def _metadata(config: InitializationConfig, digest: str, source: str) -> LearnerMetadata:
    """The metadata of a learner of this initialization that was compared with nothing."""
    recipe = config.recipe
    return LearnerMetadata(
        format="fewshot-sdk learner 1",
        n_way=recipe.meta.n_way if recipe.head == "dense" else None,
        preprocessing=recipe.preprocessing,
        backbone=recipe.backbone,
        adaptation=recipe.adaptation.replace(steps=0) if recipe.head == "prototype" else recipe.adaptation,
        initialization=origin_of(config, digest, source),
        opset=OPSET,
        parity=Parity(images=0, max_difference=0),
        noise_floor=0,
        versions=versions(TAKING_PART),
    )


def _state(opened: Opened) -> _State:
    from fewshot_sdk.storage.tensors import from_bytes  # safetensors: adapting from a file needs none

    params, inner = (from_bytes(opened.files[name], str(opened.folder / name)) for name in WEIGHTS)
    updates = int(inner.pop("updates", np.array(0)))
    return _State(params=params, second_moments=inner, updates=updates)
