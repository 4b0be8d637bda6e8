"""`Regressor`: an initialization for numbers adapted to a few points, and the folder it is saved in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_sdk.config.regression import RegressorConfig
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.nets.params import Params, check_alike
from fewshot_sdk.nets.perceptrons import perceptron, shapes
from fewshot_sdk.storage import cards
from fewshot_sdk.storage.bundles import REGRESSOR, settings_of
from fewshot_sdk.storage.tensors import from_safetensors, to_safetensors

Floats = NDArray[np.float32]
_MODEL, _POINTS = REGRESSOR.needed


@dataclass(frozen=True, kw_only=True, eq=False)
class Regressor:
    """An adapted network for numbers.

    points: the points it was adapted to, float32 (n, inputs + 1), the output last; kept so that an export can be
    checked on them.
    """

    config: RegressorConfig
    params: Params
    points: Floats

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the input columns."""
        return self.config.inputs

    @property
    def output(self) -> str:
        """The name of the predicted column."""
        return self.config.output

    def predict(self, inputs: Floats) -> Floats:
        """The output, float32 (n,), for each row of inputs, (n, inputs)."""
        with one_thread():
            return outputs_of(perceptron(self.config.network, len(self.config.inputs)), self.params, inputs)

    def files(self) -> dict[str, bytes]:
        """The folder's files: config.json, model.safetensors, points.safetensors, README.md."""
        return {
            "config.json": (self.config.model_dump_json(indent=2) + "\n").encode(),
            _MODEL: to_safetensors(self.params),
            _POINTS: to_safetensors({"points": torch.from_numpy(self.points)}),
            "README.md": cards.regressor_card(self.config).encode(),
        }


def read_regressor(files: Mapping[str, bytes], where: Path) -> Regressor:
    """The regressor in a folder's files, checked as `load_regressor` does."""
    config = settings_of(files, where, REGRESSOR)
    params, points = (from_safetensors(files[name], str(where / name)) for name in REGRESSOR.needed)
    n_inputs = len(config.inputs)
    check_alike(params, shapes(config.network, n_inputs), str(where / _MODEL))
    check_alike(points, {"points": torch.empty(config.points, n_inputs + 1, device="meta")}, str(where / _POINTS))
    return Regressor(config=config, params=params, points=points["points"].numpy())


def outputs_of(network: nn.Module, params: Params, inputs: Floats) -> Floats:
    """The network's outputs with these weights: (n, inputs) -> (n,)."""
    batch: Tensor = functional_call(network, params, (torch.from_numpy(np.array(inputs, np.float32)),))
    outputs: Floats = batch.detach()[:, 0].numpy()
    return outputs
