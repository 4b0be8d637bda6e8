"""Networks for numbers, from their settings: float (n, inputs) in, float (n, 1) out."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from fewshot_sdk.config.regression import Perceptron
from fewshot_sdk.nets.params import Params


def perceptron(settings: Perceptron, n_inputs: int, seed: int = 0) -> nn.Module:
    """`hidden1`, `tanh1`, ..., `head`, with PyTorch's random weights; their biases spread the curve's bends.

    A pure function of its arguments; PyTorch's global generator is not changed.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for i, width in enumerate(settings.widths, 1):
            layers[f"hidden{i}"] = nn.Linear(n_inputs, width)
            layers[f"tanh{i}"] = nn.Tanh()
            n_inputs = width
        layers["head"] = nn.Linear(n_inputs, 1)
    return nn.Sequential(layers)


def weights_of(network: nn.Module) -> Params:
    """The network's weights by name."""
    return {name: tensor.detach().clone() for name, tensor in network.named_parameters()}


def shapes(settings: Perceptron, n_inputs: int) -> Params:
    """Names and shapes of the weights as tensors without memory, because a config.json may ask for any size."""
    with torch.device("meta"):
        return {name: tensor.detach() for name, tensor in perceptron(settings, n_inputs).named_parameters()}
