"""`Inspector`: what good pictures look like, patch by patch, and the folder it is saved in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot_sdk.config.inspection import InspectorConfig
from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.errors import BundleError
from fewshot_sdk.images.preprocessing import Picture, Pixels, preprocess, several
from fewshot_sdk.nets.network import Network
from fewshot_sdk.nets.params import Params, check_alike
from fewshot_sdk.nets.patches import directions, distances, grid, patch_network, patches, scores
from fewshot_sdk.runtime.inspections import Inspected, to_inspected
from fewshot_sdk.storage import cards
from fewshot_sdk.storage.bundles import INSPECTOR, settings_of
from fewshot_sdk.storage.tensors import from_safetensors, to_safetensors

_MODEL, _MEMORY, _PICTURES = INSPECTOR.needed
FEW = 8  # pictures in a batch: bounds the memory
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspector:
    """Tells good pictures from others by the distance of their patches to those of good ones.

    params: the weights of the network up to the last stage that is used, by their names in it.
    parts: `memory` (m, channels), rows of length 1; `centre` and `whitening`, which patches go through first.
    pictures: the good and then the bad ones, preprocessed, possibly none; kept so that an export can be checked and
    pictures added.
    """

    config: InspectorConfig
    params: Params
    parts: Params
    pictures: Pixels

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's pixels."""
        return self.config.preprocessing

    @property
    def limit(self) -> float | None:
        """The score above which a picture is not good; None: nothing is called so."""
        return self.config.limit

    def network(self) -> Network:
        """The network up to the last stage that is used."""
        network = patch_network(self.config.backbone, self.preprocessing, self.config.patches)
        network.load_state_dict(self.params)
        return network

    def predict(self, pictures: Sequence[Picture], *, threshold: float | None = None) -> list[Inspected]:
        """Whether each picture (a path, the bytes of a file, a Pillow image or an array) is good, and its score.

        threshold: instead of the inspector's own limit. Raises ImageError, naming the file, if one is not a picture.
        """
        found = [self.scores(pixels) for pixels in self._batches(pictures)]
        return to_inspected(np.concatenate([*found, np.empty(0, np.float32)]), self.limit, threshold)

    def explain(self, pictures: Sequence[Picture]) -> list[Floats]:
        """The heat map (h, w) of each picture: see `heat_maps`. Raises ImageError as `predict` does."""
        return [heat for pixels in self._batches(pictures) for heat in self.heat_maps(pixels)]

    def scores(self, pixels: Pixels) -> Floats:
        """The scores, (n,), of preprocessed images, uint8 (n, height, width, channels): 0 for a known picture, to 2."""
        found: Floats = scores(torch.from_numpy(self._distances(pixels)), self.config.patches.top).numpy()
        return found

    def heat_maps(self, pixels: Pixels) -> Floats:
        """The distance of each patch to the nearest one in memory, (n, h, w), from 0 to 2."""
        sides = grid(self.config.backbone, self.preprocessing, self.config.patches)
        return self._distances(pixels).reshape(len(pixels), *sides)

    def _distances(self, pixels: Pixels) -> Floats:
        network, settings, images = self.network(), self.config.patches, torch.from_numpy(np.array(pixels))
        with one_thread(), torch.no_grad():
            found = [
                distances(directions(patches(network.outputs(batch), settings), self.parts), self.parts["memory"])
                for batch in torch.split(images, FEW)
            ]
        values: Floats = torch.cat(found).numpy()
        return values

    def _batches(self, pictures: Sequence[Picture]) -> list[Pixels]:
        sources = several(pictures)
        parts = [sources[first : first + FEW] for first in range(0, len(sources), FEW)]
        return [np.stack([preprocess(picture, self.preprocessing) for picture in part]) for part in parts]

    def without_pictures(self) -> Inspector:
        """The same inspector without the pictures it was adapted to."""
        return replace(self, pictures=self.pictures[:0])

    def files(self) -> dict[str, bytes]:
        """The folder's files: config.json, the network, the memory, the pictures, README.md."""
        return {
            "config.json": (self.config.model_dump_json(indent=2) + "\n").encode(),
            _MODEL: to_safetensors(self.params),
            _MEMORY: to_safetensors(self.parts),
            _PICTURES: to_safetensors({"pictures": torch.from_numpy(self.pictures)}),
            "README.md": cards.inspector_card(self.config).encode(),
        }


def read_inspector(files: Mapping[str, bytes], where: Path) -> Inspector:
    """The inspector in a folder's files, every tensor checked. Raises BundleError, or ParamsMismatch for a tensor."""
    config = settings_of(files, where, INSPECTOR)
    params, parts, kept = (from_safetensors(files[name], str(where / name)) for name in INSPECTOR.needed)
    preprocessing = config.preprocessing
    with torch.device("meta"):
        network = patch_network(config.backbone, preprocessing, config.patches)
        shape = (1, preprocessing.height, preprocessing.width, preprocessing.channels)
        outputs = network.outputs(torch.zeros(shape, dtype=torch.uint8))
    check_alike(params, dict(network.state_dict()), str(where / _MODEL))
    channels = sum(outputs[stage - 1].shape[1] for stage in config.patches.stages)
    rows = _length(parts, "memory")
    expected = {
        "memory": torch.empty(rows, channels), "centre": torch.empty(channels),
        "whitening": torch.empty(channels, channels),
    }  # fmt: skip
    check_alike(parts, expected, str(where / _MEMORY))
    if not rows:
        raise BundleError(f"{where / _MEMORY}: expected at least one patch; adapt again")
    n = _length(kept, "pictures")
    images = {"pictures": torch.empty((n, *shape[1:]), dtype=torch.uint8)}
    check_alike(kept, images, str(where / _PICTURES))
    if n not in (0, config.good + config.bad):
        raise BundleError(f"{where / _PICTURES}: expected {config.good + config.bad} pictures, found {n}; adapt again")
    return Inspector(config=config, params=params, parts=parts, pictures=kept["pictures"].numpy())


def _length(tensors: Params, name: str) -> int:
    """The rows of a tensor; 0 for one that is missing or has none, which `check_alike` then refuses."""
    return len(tensors[name]) if name in tensors and tensors[name].ndim else 0
