"""`Delta`: an adapted classifier as its difference from the initialization, and the folder it is kept in."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.records import DeltaConfig, Precision
from fewshot_sdk.storage import cards
from fewshot_sdk.storage.arrays import to_bytes
from fewshot_sdk.storage.deltas import DELTA, DELTA_FORMAT, check_base, difference


@dataclass(frozen=True, kw_only=True, eq=False)
class Delta:
    """A classifier without the weights that it shares with `base`, the initialization it was adapted from.

    `save` writes it, `load_classifier` makes a classifier of it again. precision: see `deltas`; float32 is exact.
    Raises BundleError, with both hashes, if it was adapted from another one.
    """

    classifier: Classifier
    base: Initialization
    precision: Precision = "float16"

    def __post_init__(self) -> None:
        base, origin = self.base, self.classifier.config.initialization
        check_base("this classifier", origin, base.recipe.preset, base.sha256)

    def files(self) -> dict[str, bytes]:
        """The folder's files: as a classifier's, with delta.safetensors in place of model.safetensors."""
        whole = self.classifier
        adapted = {name: tensor.contiguous().numpy() for name, tensor in whole.params.items()}
        before = {name: tensor.contiguous().numpy() for name, tensor in self.base.state.params.items()}
        known = {name: getattr(whole.config, name) for name in type(whole.config).model_fields}
        config = DeltaConfig(**{**known, "format": DELTA_FORMAT, "precision": self.precision})
        files = {name: data for name, data in whole.files().items() if name != "model.safetensors"}
        return {
            **files,
            "config.json": (config.model_dump_json(indent=2) + "\n").encode(),
            DELTA: to_bytes(difference(adapted, before, self.precision)),
            "README.md": cards.classifier_card(config, len(whole.support.targets)).encode(),
        }
