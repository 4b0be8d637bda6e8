"""`Forward`: a network with a task's weights, applied to batches of images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from fewshot_sdk.engine.compiled import compiled
from fewshot_sdk.nets.network import Network
from fewshot_sdk.nets.norm_statistics import norm_statistics
from fewshot_sdk.nets.params import LearnerState, Params


class Forward:
    """Logits for fixed weights, computed in C where possible.

    images: uint8 (n, height, width, channels); the logits are float (n, n_way).
    """

    def __init__(self, network: Network, params: Params) -> None:
        self._network, self._params = network, params
        self._compiled = compiled(network, params)
        state = LearnerState(params=params, second_moments={}, updates=0)
        self._packed = self._compiled.pack(state) if self._compiled else torch.empty(0)

    def together(self, images: Tensor) -> Tensor:
        """Logits of a batch, with norm statistics of the whole batch."""
        if self._compiled:
            return self._compiled.logits(self._packed, images)[0]
        return self._plain(self._params, images)

    def apart(self, images: Tensor, support: Tensor) -> Tensor:
        """Logits of images, each judged alone with the norm statistics of the support set."""
        if self._compiled:
            _, norms = self._compiled.logits(self._packed, support)
            return self._compiled.logits(self._packed, images, norms)[0]
        statistics = norm_statistics(self._network, self._params, support)
        self._network.eval()
        try:
            return self._plain({**self._params, **statistics}, images)
        finally:
            self._network.train()

    def _plain(self, params: Params, images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = functional_call(self._network, params, (images,))
        return logits
