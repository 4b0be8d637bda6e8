"""`Steps`: a learner whose steps move the head alone, so that each picture's features are computed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fewshot_sdk.config.backbone import HEAD
from fewshot_sdk.config.onnx_file import FEATURES, LEAST_SCORE, PIXELS
from fewshot_sdk.data.minibatches import schedule
from fewshot_sdk.graphs.classifier import network_graph
from fewshot_sdk.graphs.learner.parts import body_of, steps_of, taking_apart
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.runtime.learner import Learner, results
from fewshot_sdk.runtime.predictor import normalized
from fewshot_sdk.runtime.rejection import Head, Rows
from fewshot_sdk.runtime.session import opened

AT_ONCE = 16  # pictures: bounds the memory


class Steps:
    """The features of a learner's network, and its steps on them; for learners that `parts.takes_features`.

    Raises ExportError for a learner of another make.
    """

    def __init__(self, learner: Learner) -> None:
        self._metadata = settings = learner.metadata
        with taking_apart():
            model = onnx.load_from_string(learner.data)
            self.body = body_of(model)
            steps = steps_of(model, settings)
            network = network_graph(self.body, settings.backbone, settings.preprocessing, features_out=True)
            self._network, self._steps = (
                opened(graph.SerializeToString(), learner.threads, "the learner").session for graph in (network, steps)
            )
            (self._width,) = (entry.shape[1] for entry in self._steps.get_inputs() if entry.name == "support")

    def features(self, images: Pixels) -> Rows:
        """The features of preprocessed pictures, uint8 (n, height, width, channels): (n, n_features)."""
        head = {HEAD[0]: np.zeros((1, self._width)), HEAD[1]: np.zeros(1), LEAST_SCORE: np.zeros(())}
        feed = {name: array.astype(np.float32) for name, array in head.items()}
        found = []
        for first in range(0, len(images), AT_ONCE):
            feed[PIXELS] = normalized(images[first : first + AT_ONCE], self._metadata.preprocessing)
            found.append(np.asarray(self._network.run([FEATURES], feed)[0], np.float32))
        return np.concatenate(found)

    def head(self, features: Rows, targets: NDArray[np.int64], *, steps: int, seed: int) -> Head:
        """The head after some steps on these features, as `Learner.adapt` takes them.

        Raises TrainingDiverged if it is not finite.
        """
        recipe, n = self._metadata.adaptation, len(targets)
        few = n <= recipe.batch_size or not steps
        feed: dict[str, NDArray[Any]] = {
            "support": features,
            "labels": targets,
            "queries": features[:1],
            "steps": np.array(steps, np.int64),
            "learning_rate": np.array(recipe.learning_rate, np.float32),
            "batches": np.arange(n)[None] if few else schedule(n, recipe.batch_size, steps, (seed,)),
        }
        found = results(self._steps, feed)
        return Head(weight=found[HEAD[0]], bias=found[HEAD[1]], centre=centre_of(features, targets))


def centre_of(features: Rows, targets: NDArray[np.int64]) -> Rows:
    """The mean of the class means, (n_features,)."""
    means = [features[targets == label].mean(0, dtype=np.float64) for label in range(int(targets.max()) + 1)]
    centre: Rows = np.mean(means, 0).astype(np.float32)
    return centre
