"""`Classifier` and `Delta`: the result of adapting, and the folders they are saved in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Preprocessing, Rows
from fewshot_sdk.config.records import ClassifierConfig, DeltaConfig, Origin, Precision
from fewshot_sdk.errors import BundleError, ParamsMismatch
from fewshot_sdk.images.preprocessing import Picture, Pixels, preprocess, several
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.nets.heat_maps import heat_maps
from fewshot_sdk.nets.network import Network, build_network
from fewshot_sdk.nets.params import Params, check_alike
from fewshot_sdk.nets.score import Cosine
from fewshot_sdk.runtime.predictions import Prediction, check_threshold, to_predictions
from fewshot_sdk.storage import cards
from fewshot_sdk.storage.bundles import CLASSIFIER, DELTA, settings_of
from fewshot_sdk.storage.deltas import CENTRE, STEP, check_base, difference, restored
from fewshot_sdk.storage.tensors import from_safetensors, to_bytes, to_safetensors

LARGE = 128 * 128  # pixels
AT_ONCE, FEW = 256, 8  # pictures in a batch, where memory is kept for the layers too: bounds the memory
SUMS = "class_sums.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """An adapted network with frozen normalization: its prediction for a picture does not depend on the batch.

    params: weights and the norms' statistics, by the names of the network's state dict.
    support: the preprocessed images it was adapted to, possibly none; kept so that an export can be checked on them,
    and not part of an exported file.
    class_sums: for prototypes, each class's sum and count of features, so that pictures can be added later.
    centre: the mean of the class means of the features, (n_features,), for the score `cosine`.
    """

    config: ClassifierConfig
    params: Params
    support: SupportSet
    class_sums: Params | None = None
    centre: torch.Tensor | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the outputs."""
        return self.config.labels

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's pixels."""
        return self.config.preprocessing

    def network(self) -> Network:
        """The network in evaluation mode: uint8 (n, height, width, channels) -> logits (n, n_way)."""
        network = build_network(self.config.backbone, self.config.preprocessing, len(self.labels))
        network.load_state_dict(self.params)
        return network.eval().requires_grad_(False)

    def predict(self, pictures: Sequence[Picture], *, threshold: float | None = None) -> list[Prediction]:
        """A prediction for each picture (a path, the bytes of a file, a Pillow image or an array).

        threshold: as for `Predictor`. Raises ImageError, naming the file, if one is not a picture.
        """
        pixels = [preprocess(picture, self.config.preprocessing) for picture in several(pictures)]
        if not pixels:
            return []
        return to_predictions(*self.answers(np.stack(pixels), threshold=threshold), self.labels)

    def explain(self, pictures: Sequence[Picture]) -> list[NDArray[np.float32]]:
        """The heat map (h, w) of each picture, a few pictures at a time: see `heat_maps`.

        Raises ImageError as `predict` does, ConfigError for a network without maps.
        """
        found: list[NDArray[np.float32]] = []
        for first in range(0, len(pictures), FEW):
            pixels = [
                preprocess(picture, self.config.preprocessing) for picture in several(pictures)[first : first + FEW]
            ]
            found += list(self.heat_maps(np.stack(pixels)))
        return found

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Probabilities (n, n_way) of preprocessed images, uint8 (n, height, width, channels)."""
        return self.answers(pixels)[0]

    def answers(
        self, pixels: Pixels, *, threshold: float | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probabilities (n, n_way) of preprocessed images, and whether each seems to show a known class, (n,).

        threshold: as for `predict`.
        """
        check_threshold(threshold)
        network = self.network()
        images = torch.from_numpy(np.array(pixels))
        batches = torch.split(images, FEW if images.shape[1] * images.shape[2] > LARGE else AT_ONCE)
        cosine, body = self.cosine(), network.before_head()
        features = [body(batch) for batch in batches]
        logits = torch.cat([network.get_submodule("head")(rows) for rows in features])
        probabilities: NDArray[np.float32] = (logits / self.config.temperature).softmax(1).numpy()
        known = probabilities.max(1) >= np.float32(self.config.threshold if threshold is None else threshold)
        if self.config.least_score is not None:
            found = (
                logits.max(1).values.numpy()
                if cosine is None
                else cosine.scores(logits.numpy(), torch.cat(features).numpy())
            )
            known &= found >= np.float32(self.config.least_score)
        return probabilities, known

    def heat_maps(self, pixels: Pixels, classes: Sequence[int] | None = None) -> NDArray[np.float32]:
        """What each position adds to a class's logit, (n, h, w), see `nets.heat_maps`; pixels as for `probabilities`.

        classes: the class of each picture; None: the most probable one. Raises ConfigError for a network without maps.
        """
        network = self.network()
        images = torch.from_numpy(np.array(pixels))
        targets = images.new_zeros(0) if classes is None else torch.tensor(classes, dtype=torch.int64)
        found = [
            heat_maps(
                network, images[i : i + FEW], None if classes is None else targets[i : i + FEW], self.config.temperature
            )[0]
            for i in range(0, len(images), FEW)
        ]
        return torch.cat(found).numpy()

    def cosine(self, temperature: float = 1.0) -> Cosine | None:
        """What decides about `unknown`, given logits divided by a temperature; None if the logits alone do."""
        if self.centre is None or self.config.least_score is None or self.config.score != "cosine":
            return None
        weight, bias = self.params["head.weight"].numpy(), self.params["head.bias"].numpy()
        return Cosine.of(weight, bias, self.centre.numpy(), temperature)

    def without_pictures(self) -> Classifier:
        """The same classifier without the pictures it was adapted to."""
        empty = SupportSet(labels=self.labels, images=self.support.images[:0], targets=self.support.targets[:0])
        return replace(self, support=empty)

    def files(self) -> dict[str, bytes]:
        """The folder's files: config.json, model.safetensors, support.safetensors and README.md; for prototypes also
        class_sums.safetensors, and for the score `cosine` centre.safetensors."""
        support = {
            "images": torch.from_numpy(self.support.images),
            "targets": torch.from_numpy(self.support.targets),
        }
        files = {
            "config.json": (self.config.model_dump_json(indent=2) + "\n").encode(),
            "model.safetensors": to_safetensors(self.params),
            "support.safetensors": to_safetensors(support),
            "README.md": cards.classifier_card(self.config, len(self.support.targets)).encode(),
        }
        if self.class_sums is not None:
            files[SUMS] = to_safetensors(self.class_sums)
        if self.cosine() is not None and self.centre is not None:
            files[CENTRE] = to_safetensors({"centre": self.centre})
        return files


def read_classifier(files: Mapping[str, bytes], where: Path) -> Classifier:
    """The classifier in a folder's files, checked as `load_classifier` does."""
    config = settings_of(files, where, CLASSIFIER)
    params = from_safetensors(files["model.safetensors"], str(where / "model.safetensors"))
    return _classifier(files, where, config, params)


def read_delta(files: Mapping[str, bytes], where: Path, base_of: Callable[[Origin], Initialization]) -> Classifier:
    """The classifier that the delta in a folder's files and its base make together.

    base_of: finds the delta's initialization. Raises BundleError, with both hashes, if it finds another one.
    """
    stored = settings_of(files, where, DELTA)
    base = base_of(stored.initialization)
    check_base(str(where), stored.initialization, base.recipe.preset, base.sha256)
    delta = {name: step.numpy() for name, step in from_safetensors(files[STEP], str(where / STEP)).items()}
    before = {name: tensor.contiguous().numpy() for name, tensor in base.state.params.items()}
    after = restored(delta, before, stored.precision, str(where / STEP))
    fields = {name: getattr(stored, name) for name in ClassifierConfig.model_fields}
    params = {name: torch.from_numpy(tensor.copy()) for name, tensor in after.items()}  # a writable copy
    return _classifier(files, where, ClassifierConfig(**{**fields, "format": CLASSIFIER.name}), params)


def _classifier(files: Mapping[str, bytes], where: Path, config: ClassifierConfig, params: Params) -> Classifier:
    with torch.device("meta"):  # shapes only: a config.json may ask for any size
        network = build_network(config.backbone, config.preprocessing, len(config.labels))
    check_alike(params, network.state_dict(), str(where / "model.safetensors"))
    support = from_safetensors(files["support.safetensors"], str(where / "support.safetensors"))
    sums = None
    if SUMS in files:
        sums = from_safetensors(files[SUMS], str(where / SUMS))
        expected_sums = {
            "sums": torch.empty(params["head.weight"].shape, dtype=torch.float64),
            "counts": torch.empty(len(config.labels), dtype=torch.int64),
        }
        check_alike(sums, expected_sums, str(where / SUMS))
    centre = None
    if CENTRE in files:
        found = from_safetensors(files[CENTRE], str(where / CENTRE))
        check_alike(found, {"centre": torch.empty(params["head.weight"].shape[1])}, str(where / CENTRE))
        centre = found["centre"]
    elif config.least_score is not None and config.score == "cosine":
        raise BundleError(f"{where}: {CENTRE} is missing, by which it calls pictures unknown; adapt again")
    return Classifier(
        config=config,
        params=params,
        support=_support(support, config, where / "support.safetensors"),
        class_sums=sums,
        centre=centre,
    )


def _support(tensors: Params, config: ClassifierConfig, path: Path) -> SupportSet:
    n = len(tensors["targets"]) if "targets" in tensors else 0
    preprocessing = config.preprocessing
    expected = {
        "images": torch.empty(
            (n, preprocessing.height, preprocessing.width, preprocessing.channels),
            dtype=torch.float32 if isinstance(preprocessing, Rows) else torch.uint8,
        ),
        "targets": torch.empty(n, dtype=torch.int64),
    }
    check_alike(tensors, expected, str(path))
    targets = tensors["targets"].numpy()
    if n and not (targets.min() >= 0 and targets.max() < len(config.labels)):
        raise ParamsMismatch(f"{path}: targets must be from 0 to {len(config.labels) - 1}; adapt again")
    return SupportSet(labels=config.labels, images=tensors["images"].numpy(), targets=targets)


@dataclass(frozen=True, kw_only=True, eq=False)
class Delta:
    """A classifier stored as its difference from `base`, the initialization it was adapted from.

    `save` writes it and `load_classifier` turns it back into a classifier. precision: see `deltas`; float32 is exact.
    Raises BundleError, with both hashes, if the classifier was adapted from another initialization.
    """

    classifier: Classifier
    base: Initialization
    precision: Precision = "float16"

    def __post_init__(self) -> None:
        base, origin = self.base, self.classifier.config.initialization
        check_base("this classifier", origin, base.recipe.preset, base.sha256)

    def files(self) -> dict[str, bytes]:
        """The folder's files: a classifier's, with delta.safetensors instead of model.safetensors."""
        whole = self.classifier
        adapted = {name: tensor.contiguous().numpy() for name, tensor in whole.params.items()}
        before = {name: tensor.contiguous().numpy() for name, tensor in self.base.state.params.items()}
        fields = {name: getattr(whole.config, name) for name in type(whole.config).model_fields}
        config = DeltaConfig(**{**fields, "format": DELTA.name, "precision": self.precision})
        files = {name: data for name, data in whole.files().items() if name != "model.safetensors"}
        return {
            **files,
            "config.json": (config.model_dump_json(indent=2) + "\n").encode(),
            STEP: to_bytes(difference(adapted, before, self.precision)),
            "README.md": cards.classifier_card(config, len(whole.support.targets)).encode(),
        }
