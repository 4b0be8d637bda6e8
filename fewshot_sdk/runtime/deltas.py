"""`DeltaPredictor`: many classifiers that share one initialization, run by onnxruntime; no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.onnx_file import KNOWN, LEAST_SCORE, OUTPUT, PIXELS, THRESHOLD
from fewshot_sdk.config.recipe import Backbone
from fewshot_sdk.config.records import DeltaConfig
from fewshot_sdk.errors import ConfigError, ParamsMismatch
from fewshot_sdk.graphs.classifier import network_graph
from fewshot_sdk.graphs.weights import folded
from fewshot_sdk.images.preprocessing import Picture, Pixels, preprocess, several
from fewshot_sdk.nets.score import Cosine
from fewshot_sdk.runtime.predictions import Prediction, check_threshold, to_predictions
from fewshot_sdk.runtime.predictor import normalized
from fewshot_sdk.runtime.session import Session, opened
from fewshot_sdk.storage.bundles import DELTA, INITIALIZATION, WEIGHTS, settings_of
from fewshot_sdk.storage.deltas import CENTRE, STEP, Arrays, check_base, restored
from fewshot_sdk.storage.files import read_folder, sha256
from fewshot_sdk.storage.repositories import open_named
from fewshot_sdk.storage.tensors import from_bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kept:
    config: DeltaConfig
    delta: Arrays
    centre: NDArray[np.float32] | None


class DeltaPredictor:
    """Classifiers kept as deltas (`fewshot adapt --delta`) from one initialization, each under a name of your choice.

    The initialization is in memory once, and the network once for each summary that the heads of a residual network
    use. Each classifier takes only the bytes of its delta, which is added to the initialization at every prediction,
    in a millisecond or so.
    base: an initialization's name, folder or user/repo, as for `load`. threads: how many onnxruntime may use.
    Raises BundleError if `base` is not an initialization.
    """

    def __init__(self, base: str | Path, *, threads: int = 1) -> None:
        found = open_named(base)
        config = settings_of(found.files, found.folder, INITIALIZATION)
        self._name, self._recipe = str(base), config.recipe
        self._sha256 = sha256(b"".join(found.files[name] for name in WEIGHTS))
        self._base = from_bytes(found.files["model.safetensors"], str(found.folder / "model.safetensors"))
        self._threads = threads
        # by backbone, which names the summary that the head uses, and whether the score is a cosine
        self._sessions: dict[tuple[Backbone, bool], Session] = {}
        self._names = {*self._base, "head.weight", "head.bias", *self._recipe.backbone.norm_buffers()}
        self._kept: dict[str, _Kept] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classifiers, in the order in which they were added."""
        return tuple(self._kept)

    def add(self, name: str, folder: str | Path) -> None:
        """Keep the delta in a folder under a name, replacing an earlier one.

        Raises BundleError for a folder that is not a delta, was changed, or belongs to another initialization (naming
        both hashes), ParamsMismatch for tensors that do not fit.
        """
        folder = Path(folder)
        files = read_folder(folder)
        config = settings_of(files, folder, DELTA)
        check_base(str(folder), config.initialization, self._name, self._sha256)
        centre = from_bytes(files[CENTRE], str(folder / CENTRE)).get("centre") if CENTRE in files else None
        kept = _Kept(config=config, delta=from_bytes(files[STEP], str(folder / STEP)), centre=centre)
        size = config.preprocessing
        blank = np.zeros((1, size.height, size.width, size.channels), np.uint8)
        try:
            fits = self._run(kept, blank, str(folder / STEP))[0].shape == (1, len(config.labels))
        except ParamsMismatch:
            raise
        except Exception:  # onnxruntime's exceptions share no other base
            fits = False
        if not fits:
            raise ParamsMismatch(f"{folder / STEP}: its tensors are not those of {self._name}'s network; adapt again")
        self._kept[name] = kept

    def remove(self, name: str) -> None:
        """Forget a classifier. Raises ConfigError for a name that was not added."""
        self._get(name)
        del self._kept[name]

    def labels(self, name: str) -> tuple[str, ...]:
        """A classifier's class names, in the order of its outputs. Raises ConfigError for a name that was not added."""
        return self._get(name).config.labels

    def predict(self, name: str, pictures: Sequence[Picture], *, threshold: float | None = None) -> list[Prediction]:
        """A classifier's prediction for each picture (a path, the bytes of a file, a Pillow image, an array).

        threshold: as for `Predictor`.
        Raises ConfigError for a name that was not added, ImageError, naming the file, for one that is not a picture.
        """
        check_threshold(threshold)
        config = self._get(name).config
        if not pictures:
            return []
        pixels = np.stack([preprocess(picture, config.preprocessing) for picture in several(pictures)])
        rows, known = self._run(self._get(name), pixels, name, threshold)
        return to_predictions(rows, known, config.labels)

    def probabilities(self, name: str, pixels: Pixels) -> NDArray[np.float32]:
        """A classifier's probabilities, (n, n_way), for preprocessed images, uint8 (n, height, width, channels)."""
        return self._run(self._get(name), pixels, name)[0]

    def _get(self, name: str) -> _Kept:
        if name not in self._kept:
            raise ConfigError(f"no delta {name!r} was added; there are {len(self._kept)}, see `names`")
        return self._kept[name]

    def _session(self, backbone: Backbone, from_cosine: bool) -> Session:
        if (backbone, from_cosine) not in self._sessions:
            graph = network_graph(None, backbone, self._recipe.preprocessing, from_cosine=from_cosine)
            self._sessions[backbone, from_cosine] = opened(graph.SerializeToString(), self._threads).session
        return self._sessions[backbone, from_cosine]

    def _run(
        self, kept: _Kept, pixels: Pixels, what: str, threshold: float | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        found = restored(kept.delta, self._base, kept.config.precision, what)
        wrong = {name for name, tensor in found.items() if tensor.dtype != np.float32}
        if odd := sorted(wrong | (found.keys() ^ self._names)):
            raise ParamsMismatch(f"{what}: tensor {odd[0]!r} is missing, unexpected or not float32; adapt again")
        tensors = folded(found, self._recipe.backbone)
        for part in ("head.weight", "head.bias"):
            tensors[part] = tensors[part] / np.float32(kept.config.temperature)
        feed = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
        config, feed[PIXELS] = kept.config, normalized(pixels, self._recipe.preprocessing)
        least = np.finfo(np.float32).min if config.least_score is None else config.least_score
        from_cosine = config.least_score is not None and config.score == "cosine"
        if from_cosine:
            if kept.centre is None or kept.centre.shape != found["head.weight"].shape[1:]:
                raise ParamsMismatch(f"{what}: {CENTRE} is missing or does not fit; adapt again")
            feed |= vars(Cosine.of(found["head.weight"], found["head.bias"], kept.centre, config.temperature))
        elif config.least_score is not None:
            least /= config.temperature
        feed[LEAST_SCORE] = np.asarray(least, np.float32)
        feed[THRESHOLD] = np.asarray(config.threshold if threshold is None else threshold, np.float32)
        rows, high = self._session(config.backbone, from_cosine).run([OUTPUT, KNOWN], feed)
        return np.asarray(rows, np.float32), np.asarray(high, np.bool_)
