"""`Learner`: adapts and classifies with a learner file, onnxruntime and numpy; no PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from fewshot_sdk.config.onnx_file import LearnerMetadata
from fewshot_sdk.data.minibatches import schedule
from fewshot_sdk.errors import BundleError, ConfigError, SupportError, TrainingDiverged
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.runtime.session import Model, opened


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """The queries' probabilities, (n, n_way), and the adapted classifier's tensors by their names in PyTorch."""

    probabilities: NDArray[np.float32]
    tensors: dict[str, NDArray[np.float32]]


class Learner:
    """An initialization that adapts, from a file written by `fewshot export-learner` or from its bytes.

    threads: how many the runtime may use; a second one is no faster on networks this small.
    Raises BundleError if the file is not ONNX, or not a learner written by fewshot-sdk.
    """

    def __init__(self, model: Model, *, threads: int = 1) -> None:
        file = opened(model, threads, "the learner")
        self._session, name, stored = file.session, file.name, file.metadata
        self.data, self.threads = file.data, threads
        if stored is None:
            raise BundleError(f"{name} is an ONNX file, but not one made by `fewshot export-learner`")
        if str(file.format).startswith("fewshot-sdk onnx"):
            raise BundleError(f"{name} is a classifier already, not a learner; make one with `fewshot export-learner`")
        try:
            self.metadata = LearnerMetadata.from_json(stored)
        except ConfigError as error:
            raise BundleError(f"{name} is not a file made by `fewshot export-learner` ({error}); export one") from None

    def adapt(
        self, images: Pixels, targets: NDArray[np.int64], queries: Pixels, *, steps: int | None = None,
        learning_rate: float | None = None, seed: int = 0, transductive: bool = False,
    ) -> Adapted:  # fmt: skip
        """Take a few gradient steps on the support set, starting at the initialization, and classify the queries.

        images and queries: uint8 (n, height, width, channels), preprocessed; targets: int64 (n,), from 0, each class
        at least once. steps and learning_rate: None means the recipe's. A support set larger than the recipe's batch
        is taken in mini-batches, ordered by `seed` as in `adapt`. transductive: normalize the queries together, by
        their own statistics, instead of each by the support set's.
        Raises SupportError for arrays or targets that do not fit, ConfigError for steps below zero, a rate that is
        not positive or a number of classes other than a dense head's, TrainingDiverged if the weights are not finite.
        """
        recipe = self.metadata.adaptation
        steps = recipe.steps if steps is None else steps
        rate = recipe.learning_rate if learning_rate is None else learning_rate
        self.check(images, targets, steps)
        if not (math.isfinite(rate) and rate > 0):
            raise ConfigError(f"learning rate: expected a number above 0, found {rate}")
        self._check_images(queries, "queries")
        feed: dict[str, NDArray[Any]] = {
            "support": images,
            "labels": targets,
            "queries": queries,
            "steps": np.array(steps, np.int64),
            "learning_rate": np.array(rate, np.float32),
            "transductive": np.array(transductive),
        }
        if len(images) > recipe.batch_size and steps:
            feed["batches"] = schedule(len(images), recipe.batch_size, steps, (seed,))
        found = results(self._session, feed)
        return Adapted(probabilities=found.pop("probabilities"), tensors=found)

    def check(self, images: Pixels, targets: NDArray[np.int64], steps: int) -> None:
        """Raises what `adapt` raises for such a support set and number of steps."""
        if steps < 0:
            raise ConfigError(f"steps: expected 0 or more, found {steps}")
        self._check_images(images, "support images")
        self._check_targets(targets, len(images))

    def _check_images(self, images: Pixels, what: str) -> None:
        size = self.metadata.preprocessing
        expected = (size.height, size.width, size.channels)
        if images.dtype != np.uint8 or images.shape[1:] != expected or not len(images):
            wanted = f"uint8 (1 or more, {', '.join(map(str, expected))})"
            raise SupportError(f"{what}: expected {wanted}, found {images.dtype} {images.shape}")

    def _check_targets(self, targets: NDArray[np.int64], n: int) -> None:
        if targets.dtype != np.int64 or targets.shape != (n,):
            raise SupportError(f"targets: expected int64 ({n},), found {targets.dtype} {targets.shape}")
        n_way = self.metadata.n_way or int(targets.max()) + 1
        if targets.min() < 0 or targets.max() >= n_way:
            raise ConfigError(
                f"targets: expected classes from 0 to {n_way - 1}, found {targets.min()} to {targets.max()}"
            )
        present = np.unique(targets)  # np.bincount would make as many counts as the largest target, which may be huge
        if len(present) < n_way:
            absent = next((i for i, target in enumerate(present) if i != target), len(present))
            raise SupportError(
                f"class {absent} of {n_way} is absent from the support set; give at least one picture of each class"
            )


def results(session: InferenceSession, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The outputs of a learner, or of its steps, by name. Raises TrainingDiverged if one is not finite."""
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, map(np.asarray, session.run(names, feed)), strict=True))
    if not all(np.isfinite(array).all() for array in found.values()):
        raise TrainingDiverged("adapting to this support set ended in weights that are not finite; try fewer --steps")
    return found
