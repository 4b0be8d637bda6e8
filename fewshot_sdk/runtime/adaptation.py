"""Adapts a learner file to a user's own examples and writes the classifier as ONNX, without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.config.backbone import HEAD
from fewshot_sdk.config.onnx_file import FORMAT, METADATA_KEY, OnnxMetadata, Parity
from fewshot_sdk.errors import ParityError
from fewshot_sdk.graphs.classifier import network_graph, with_preprocessing
from fewshot_sdk.graphs.learner.parts import takes_features, taking_apart
from fewshot_sdk.graphs.versions import OPSET
from fewshot_sdk.graphs.weights import Tensors
from fewshot_sdk.images.support import SupportSet, read_support
from fewshot_sdk.runtime.calibration import softmax
from fewshot_sdk.runtime.learner import Learner
from fewshot_sdk.runtime.learners import TAKING_PART, learner_file
from fewshot_sdk.runtime.predictor import Predictor
from fewshot_sdk.runtime.rejection import Head, Limits, Rows, limits
from fewshot_sdk.runtime.steps import Steps
from fewshot_sdk.storage.files import check_free_file, write_file
from fewshot_sdk.version import versions

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

    learner: a file, or the name of an initialization, as for `learner_file`. Where its steps move the head alone, each
    picture's features are computed once, and a temperature and a limit for `unknown` are fitted to them, see `limits`;
    otherwise the temperature is 1 and nothing is called unknown.
    The file is kept only if it agrees with the learner on every support picture.
    Raises what `Learner`, `learner_file` and `read_support` raise, ExportError for a learner of another make,
    ParityError if the file and the learner disagree, OutputExists if `path` exists, SaveError if the disk refuses.
    """
    path = Path(path)
    check_free_file(path)
    if not isinstance(learner, Learner):
        learner = Learner(learner_file(learner))
    settings = learner.metadata
    if not isinstance(support, SupportSet):
        support = read_support(support, settings.preprocessing)
    made = _adapted(learner, support, settings.adaptation.steps if steps is None else steps, seed)
    cosine = None if made.head is None or made.limits.least_score is None else made.head.cosine(made.limits.temperature)
    with taking_apart():
        network = network_graph(
            made.tensors, settings.backbone, settings.preprocessing, temperature=made.limits.temperature,
            least_score=made.limits.least_score, cosine=cosine,
        )  # fmt: skip

    def serialized(worst: float, raw: bool) -> bytes:
        described = OnnxMetadata(
            format=FORMAT,
            labels=support.labels,
            preprocessing=settings.preprocessing,
            adaptation=settings.adaptation if steps is None else settings.adaptation.replace(steps=steps),
            initialization=settings.initialization,
            opset=OPSET,
            parity=Parity(images=len(support.images), max_difference=worst),
            versions={**versions(TAKING_PART), "inner loop": "onnxruntime"},
            least_score=made.limits.least_score,
            score="logit" if cosine is None else "cosine",
            raw=raw,
        )
        graph = network if raw else with_preprocessing(network, settings.preprocessing)
        onnx.helper.set_model_props(graph, {METADATA_KEY: described.model_dump_json()})
        data: bytes = graph.SerializeToString(deterministic=True)
        return data

    found = Predictor(serialized(0, raw=True)).probabilities(support.images)
    worst = float(np.abs(found - made.probabilities).max())
    if not worst <= TOLERANCE:
        raise ParityError(
            f"the classifier and the learner disagree on a support image: a probability differs by {worst:.2g}, "
            f"allowed {TOLERANCE:.0e}; no file was written"
        )
    data = serialized(worst, raw=False)
    write_file(path, data)
    right = int((found.argmax(1) == support.targets).sum())
    return AdaptedFile(path=path, metadata=Predictor(data).metadata, images=len(support.images), recognized=right)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Made:
    """What the learner made of a support set: the classifier's tensors, and the support pictures' probabilities."""

    tensors: Tensors
    probabilities: NDArray[np.floating]
    limits: Limits = field(default_factory=Limits)
    head: Head | None = None


def _adapted(learner: Learner, support: SupportSet, steps: int, seed: int) -> _Made:
    images, targets = support.images, support.targets
    if not takes_features(learner.metadata):
        adapted = learner.adapt(images, targets, images, steps=steps, seed=seed)
        return _Made(tensors=adapted.tensors, probabilities=adapted.probabilities)
    learner.check(images, targets, steps)
    parts = Steps(learner)
    features = parts.features(images)

    def learn(rows: Rows, classes: NDArray[np.int64]) -> Head:
        return parts.head(rows, classes, steps=steps, seed=seed)

    head = learn(features, targets)
    found = limits(features, targets, learn, seed=seed, leave_out=learner.metadata.n_way is None)
    return _Made(
        tensors={**parts.body, HEAD[0]: head.weight, HEAD[1]: head.bias},
        probabilities=softmax(head.logits(features), found.temperature),
        limits=found,
        head=head,
    )
