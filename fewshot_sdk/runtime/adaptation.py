"""From a learner file and a user's own examples to a classifier's ONNX file, without PyTorch."""

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
from fewshot_sdk.graphs.nodes import OPSET
from fewshot_sdk.images.support import SupportSet, read_support
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.storage.files import check_free_file, write_file
from fewshot_sdk.version import __version__

TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class AdaptedFile:
    """A classifier that was adapted and written: where, what it says of itself, and how it does on its support set."""

    path: Path
    metadata: OnnxMetadata
    images: int
    recognized: int


def adapt_to_onnx(
    learner: Learner | str | Path, support: SupportSet | str | Path, path: str | Path, *,
    steps: int | None = None, seed: int = 0,
) -> AdaptedFile:  # fmt: skip
    """Adapt a learner to a support set and write the classifier as one ONNX file, as `adapt` and `export_onnx` do.

    The file is kept only if it says of every support picture what the learner says.
    Raises what `Learner` and `read_support` raise, ParityError if the two disagree, OutputExists if `path`
    exists, SaveError if the disk refuses.
    """
    path = Path(path)
    check_free_file(path)
    if not isinstance(learner, Learner):
        learner = Learner(learner)
    known = learner.metadata
    if not isinstance(support, SupportSet):
        support = read_support(support, known.preprocessing)
    adapted = learner.adapt(support.images, support.targets, support.images, steps=steps, seed=seed)
    network = network_graph(adapted.tensors, known.backbone, known.preprocessing)

    def described(worst: float, raw: bool) -> bytes:
        said = OnnxMetadata(
            format=FORMAT,
            labels=support.labels,
            preprocessing=known.preprocessing,
            adaptation=known.adaptation if steps is None else known.adaptation.replace(steps=steps),
            initialization=known.initialization,
            opset=OPSET,
            parity=Parity(images=len(support.images), max_difference=worst),
            versions=_versions(),
            raw=raw,
        )
        graph = network if raw else with_preprocessing(network, known.preprocessing)
        onnx.helper.set_model_props(graph, {METADATA_KEY: said.model_dump_json()})
        data: bytes = graph.SerializeToString(deterministic=True)
        return data

    found = Predictor(described(0, raw=True)).probabilities(support.images)
    worst = float(np.abs(found - adapted.probabilities).max())
    if not worst <= TOLERANCE:
        raise ParityError(
            f"the classifier and the learner disagree on a support image: a probability differs by {worst:.2g}, "
            f"allowed {TOLERANCE:.0e}; no file was written"
        )
    data = described(worst, raw=False)
    write_file(path, data)
    right = int((found.argmax(1) == support.targets).sum())
    return AdaptedFile(path=path, metadata=Predictor(data).metadata, images=len(support.images), recognized=right)


def _versions() -> dict[str, str]:
    """As `version.versions`, of what takes part here: there need be no PyTorch."""
    installed = {name: metadata.version(name) for name in ("numpy", "pillow", "onnx", "onnxruntime")}
    return {
        "fewshot-sdk": __version__,
        "python": platform.python_version(),
        **installed,
        "machine": platform.machine(),
        "inner loop": "onnxruntime",
    }
