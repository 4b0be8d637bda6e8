"""Adapts a learner file to a user's own examples and writes the classifier as ONNX, without PyTorch."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx

from fewshot_sdk.config.onnx_file import FORMAT, METADATA_KEY, OnnxMetadata, Parity
from fewshot_sdk.errors import ParityError
from fewshot_sdk.graphs.classifier import network_graph, with_preprocessing
from fewshot_sdk.graphs.versions import OPSET
from fewshot_sdk.images.support import SupportSet, read_support
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.storage.files import check_free_file, write_file
from fewshot_sdk.version import __version__

TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class AdaptedFile:
    """An adapted classifier's file: its path, its metadata, and how many of its support images it recognizes."""

    path: Path
    metadata: OnnxMetadata
    images: int
    recognized: int


def adapt_to_onnx(
    learner: Learner | str | Path, support: SupportSet | str | Path, path: str | Path, *,
    steps: int | None = None, seed: int = 0,
) -> AdaptedFile:  # fmt: skip
    """Adapt a learner to a support set and write the classifier as one ONNX file, as `adapt` and `export_onnx` do.

    The file is kept only if it agrees with the learner on every support picture.
    Raises what `Learner` and `read_support` raise, ParityError if the file and the learner disagree, OutputExists if
    `path` exists, SaveError if the disk refuses.
    """
    path = Path(path)
    check_free_file(path)
    if not isinstance(learner, Learner):
        learner = Learner(learner)
    settings = learner.metadata
    if not isinstance(support, SupportSet):
        support = read_support(support, settings.preprocessing)
    adapted = learner.adapt(support.images, support.targets, support.images, steps=steps, seed=seed)
    network = network_graph(adapted.tensors, settings.backbone, settings.preprocessing)

    def serialized(worst: float, raw: bool) -> bytes:
        described = OnnxMetadata(
            format=FORMAT,
            labels=support.labels,
            preprocessing=settings.preprocessing,
            adaptation=settings.adaptation if steps is None else settings.adaptation.replace(steps=steps),
            initialization=settings.initialization,
            opset=OPSET,
            parity=Parity(images=len(support.images), max_difference=worst),
            versions=_versions(),
            raw=raw,
        )
        graph = network if raw else with_preprocessing(network, settings.preprocessing)
        onnx.helper.set_model_props(graph, {METADATA_KEY: described.model_dump_json()})
        data: bytes = graph.SerializeToString(deterministic=True)
        return data

    found = Predictor(serialized(0, raw=True)).probabilities(support.images)
    worst = float(np.abs(found - adapted.probabilities).max())
    if not worst <= TOLERANCE:
        raise ParityError(
            f"the classifier and the learner disagree on a support image: a probability differs by {worst:.2g}, "
            f"allowed {TOLERANCE:.0e}; no file was written"
        )
    data = serialized(worst, raw=False)
    write_file(path, data)
    right = int((found.argmax(1) == support.targets).sum())
    return AdaptedFile(path=path, metadata=Predictor(data).metadata, images=len(support.images), recognized=right)


def _versions() -> dict[str, str]:
    """Like `version.versions`, but only of what takes part here, for PyTorch may be missing."""
    installed = {name: metadata.version(name) for name in ("numpy", "pillow", "onnx", "onnxruntime")}
    return {
        "fewshot-sdk": __version__,
        "python": platform.python_version(),
        **installed,
        "machine": platform.machine(),
        "inner loop": "onnxruntime",
    }
