"""Gradient steps on a network's last layers and its head, from cached outputs of the layers before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_sdk.config.recipe import InnerLoop
from fewshot_sdk.engine.features import outputs_of_views, views_of
from fewshot_sdk.engine.inner_loop import moving, summed, update
from fewshot_sdk.nets.network import Network
from fewshot_sdk.nets.params import LearnerState, Params
from fewshot_sdk.nets.summaries import Summarized


class _Before(nn.Module):
    """The layers before the tail: images to the outputs of the `Summarized` ones."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        for name, layer in network.named_children():
            if name == network.backbone.tail[0]:
                break
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.children():
            x = layer(x)
            if isinstance(layer, Summarized):
                found.append(x)
        return found


class _Tail(nn.Module):
    """The tail, the summary and the head: outputs of the layers before to logits (n, n_way)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._summarize = network.summarize
        self._layers = network.backbone.tail
        for name in (*self._layers, "head"):
            self.add_module(name, network.get_submodule(name))

    def forward(self, outputs: list[Tensor]) -> Tensor:
        for name in self._layers:
            outputs = [*outputs, self.get_submodule(name)(outputs[-1])]
        logits: Tensor = self.get_submodule("head")(self._summarize(outputs))
        return logits


def before_tail(network: Network, params: Params, images: Tensor) -> list[Tensor]:
    """The outputs of the layers before the tail that it needs, each (views, n, channels, h, w).

    images: uint8 (n, height, width, channels). Call it under `one_thread`, for the same bits everywhere.
    """
    before = _Before(network)
    weights = {name: params[name] for name, _ in before.named_parameters()}
    n_kept = max(1, network.backbone.summarized - len(network.backbone.tail))
    return outputs_of_views(before, weights, images, views_of(network.backbone, len(images)))[-n_kept:]


def tune_tail(
    network: Network, start: LearnerState, outputs: Sequence[Tensor], labels: Tensor, batches: Tensor,
    inner: InnerLoop, seed: int,
) -> tuple[LearnerState, Tensor]:  # fmt: skip
    """The state after one gradient step for each mini-batch, and the losses before each, (steps,).

    Only the layers of `backbone.tail` and the head move; each image of a mini-batch is taken in a view drawn by `seed`.
    outputs: of `before_tail`; labels: int64 (n,); batches: int64 (steps, batch_size), rows of both.
    start: with a head for the task. Call it under `one_thread`, for the same bits everywhere.
    """
    tail = _Tail(network)
    names = moving(network, start.params, "tail")
    moments = {} if inner.optimizer == "sgd" else {name: start.second_moments[name] for name in names}
    state = replace(start, params={name: start.params[name] for name in names}, second_moments=moments)
    rng, losses = np.random.default_rng((seed, 4)), []
    for rows in batches:
        view = torch.from_numpy(rng.integers(0, len(outputs[0]), len(rows)))
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in state.params.items()}
        with torch.enable_grad():
            logits = functional_call(tail, leaves, ([output[view, rows] for output in outputs],))
            loss = F.cross_entropy(logits, labels[rows])
        grads = torch.autograd.grad(loss, list(leaves.values()))
        state = update(state, summed(dict(zip(leaves, grads, strict=True)), len(rows), inner), inner)
        losses.append(loss.detach())
    moments = {} if inner.optimizer == "sgd" else {**start.second_moments, **state.second_moments}
    end = replace(state, params={**start.params, **state.params}, second_moments=moments)
    return end, torch.stack(losses) if losses else torch.zeros(0)
