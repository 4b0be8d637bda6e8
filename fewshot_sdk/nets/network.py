"""Networks from their settings: uint8 images (n, height, width, channels) in, logits (n, n_way) out."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from fewshot_sdk.config.backbone import HEAD as HEAD
from fewshot_sdk.config.backbones import BACKBONES, Backbone
from fewshot_sdk.config.recipe import Preprocessing, Rows
from fewshot_sdk.nets.norms import BatchNorm
from fewshot_sdk.nets.params import Params
from fewshot_sdk.nets.summaries import Statistics, Summarized
from fewshot_sdk.tables import referred

MANY, PART = 1000, 256  # images


class PixelInput(nn.Module):
    """(pixel / 255 - mean) / std: uint8 (n, h, w, c) -> float (n, c, h, w), stored channels last."""

    def __init__(self, settings: Preprocessing) -> None:
        super().__init__()
        self.settings = settings
        values = {name: torch.tensor(getattr(settings, name)).view(1, -1, 1, 1) for name in ("mean", "std")}
        self.register_buffer("mean", values["mean"], persistent=False)
        self.register_buffer("std", values["std"], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """The network's input."""
        return self.normalized(images.permute(0, 3, 1, 2).to(self.mean.dtype) / 255)

    def normalized(self, pixels: Tensor) -> Tensor:
        """The network's input for pixels from 0 to 1, float (n, c, h, w)."""
        return (pixels - self.mean) / self.std


class Network(nn.Sequential):
    """The layers in order, and the settings they were made from."""

    def __init__(
        self, layers: OrderedDict[str, nn.Module], backbone: Backbone, preprocessing: Preprocessing, n_way: int
    ) -> None:
        super().__init__(layers)
        self.backbone, self.preprocessing, self.n_way = backbone, preprocessing, n_way

    def forward(self, input: Tensor) -> Tensor:
        """uint8 (n, height, width, channels) -> logits (n, n_way)."""
        outputs: list[Tensor] = []
        for layer in self:
            input = layer(outputs[-layer.last :] if isinstance(layer, Statistics) else input)
            if isinstance(layer, Summarized):
                outputs.append(input)
        return input

    def before_summary(self) -> Network:
        """The layers up to the last `Summarized` one, which networks that differ in the summary share."""
        children = list(self.named_children())
        last = max(i for i, (_, layer) in enumerate(children) if isinstance(layer, Summarized))
        return Network(OrderedDict(children[: last + 1]), self.backbone, self.preprocessing, self.n_way)

    def outputs(self, input: Tensor) -> list[Tensor]:
        """The outputs of the `Summarized` layers of a body, for uint8 (n, height, width, channels)."""
        found: list[Tensor] = []
        for layer in self:
            input = layer(input)
            if isinstance(layer, Summarized):
                found.append(input)
        return found

    def summarize(self, outputs: list[Tensor]) -> Tensor:
        """Features (n, n_features) from the `outputs` of the body."""
        x = outputs[-1]
        for name, layer in list(self.named_children())[len(self.before_summary()) :]:
            if name != "head":
                x = layer(outputs[-layer.last :] if isinstance(layer, Statistics) else x)
        return x

    def before_head(self) -> Network:
        """The same layers without the head, for features (n, n_features)."""
        layers = OrderedDict((name, layer) for name, layer in self.named_children() if name != "head")
        return Network(layers, self.backbone, self.preprocessing, self.n_way)


class Layers(Protocol):
    """The function that `BACKBONES` names as `layers`."""

    def __call__(
        self, backbone: Backbone, preprocessing: Preprocessing, *, norm: bool
    ) -> tuple[OrderedDict[str, nn.Module], int]:
        """The layers from pixels, float (n, c, h, w), to features, and the number of features.

        norm: the network for pre-training, if it is a different one, with batch norm after each convolution.
        """


def build_network(backbone: Backbone, preprocessing: Preprocessing, n_way: int, *, norm: bool = False) -> Network:
    """An untrained network, in training mode: `pixels`, the backbone's layers, `head`.

    norm: a residual network for pre-training, with batch norm after each convolution.
    """
    make = cast("Layers", referred(BACKBONES[backbone.kind].layers))
    body, features = make(backbone, preprocessing, norm=norm)
    pixels = nn.Identity() if isinstance(preprocessing, Rows) else PixelInput(preprocessing)
    layers: OrderedDict[str, nn.Module] = OrderedDict(pixels=pixels)
    layers |= body
    layers["head"] = nn.Linear(features, n_way)
    return Network(layers, backbone, preprocessing, n_way)


def random_params(network: nn.Module, seed: int) -> Params:
    """Fresh weights: Glorot uniform kernels, zero biases, norms with scale 1.

    A pure function of the network's shapes and `seed`.  Source: the reference implementation.
    """
    generator = torch.Generator().manual_seed(seed)
    params = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    for name, tensor in params.items():
        if tensor.dim() > 1:
            nn.init.xavier_uniform_(tensor, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(tensor)
    return params


def norm_statistics(network: nn.Module, params: Params, images: Tensor) -> Params:
    """Mean and (biased) variance of each batch norm's input over `images`: buffer name -> (channels,).

    With these as buffers, the network in evaluation mode gives the same output on `images` as in
    training mode, and judges every other image alone. Of more than `MANY` images the layers are computed in parts,
    one norm after another, which bounds the memory.
    """
    if len(images) > MANY:
        return _in_parts(network, params, images)
    found: Params = {}
    hooks = [
        module.register_forward_pre_hook(partial(_record, found, f"{name}."))
        for name, module in network.named_modules()
        if isinstance(module, BatchNorm)
    ]
    if not hooks:
        return {}
    try:
        with torch.no_grad():
            torch.func.functional_call(network, params, (images,))
    finally:
        for hook in hooks:
            hook.remove()
    return found


class _Enough(Exception):
    """The rest of the network is not needed."""


def _in_parts(network: nn.Module, params: Params, images: Tensor) -> Params:
    """The statistics of each norm, given those of the norms before it, summed over parts of the images."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, BatchNorm)}
    order = _in_order(network, norms, params, images[:2])
    found: Params = {}
    was_training = network.training
    network.eval()
    try:
        for name in order:
            found |= _summed(network, norms[name], f"{name}.", {**params, **found}, images)
    finally:
        network.train(was_training)
    return found


def _in_order(network: nn.Module, norms: dict[str, BatchNorm], params: Params, images: Tensor) -> list[str]:
    """The names of the norms in the order in which the network runs them."""
    order: list[str] = []

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG001
        order.append(name)

    hooks = [module.register_forward_pre_hook(partial(note, name)) for name, module in norms.items()]
    try:
        with torch.no_grad():
            torch.func.functional_call(network, params, (images,))
    finally:
        for hook in hooks:
            hook.remove()
    return order


def _summed(network: nn.Module, norm: BatchNorm, prefix: str, params: Params, images: Tensor) -> Params:
    """Mean and variance of one norm's input, from sums in float64."""
    sums: list[tuple[int, Tensor, Tensor]] = []

    def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG001
        rows = inputs[0].transpose(0, 1).flatten(1).double()
        sums.append((rows.shape[1], rows.sum(1), rows.square().sum(1)))
        raise _Enough

    hook = norm.register_forward_pre_hook(add)
    try:
        with torch.no_grad():
            for first in range(0, len(images), PART):
                try:
                    torch.func.functional_call(network, params, (images[first : first + PART],))
                except _Enough:
                    continue
    finally:
        hook.remove()
    n = sum(count for count, _, _ in sums)
    mean = torch.stack([total for _, total, _ in sums]).sum(0) / n
    var = torch.stack([squares for _, _, squares in sums]).sum(0) / n - mean.square()
    dtype = params[f"{prefix}weight"].dtype
    return {f"{prefix}mean": mean.to(dtype), f"{prefix}var": var.clamp_min(0).to(dtype)}


def _record(found: Params, prefix: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG001
    (input,) = inputs
    others = [dimension for dimension in range(input.dim()) if dimension != 1]
    found[f"{prefix}mean"] = input.mean(others)
    found[f"{prefix}var"] = input.var(others, correction=0)
