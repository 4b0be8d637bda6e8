"""The statistics that batch norms keep of a support set, so that afterwards every image is judged alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

import torch
from torch import Tensor, nn

from fewshot_sdk.nets.norms import BatchNorm
from fewshot_sdk.nets.params import Params

MANY, PART = 1000, 256  # images


def norm_statistics(network: nn.Module, params: Params, images: Tensor) -> Params:
    """Mean and (biased) variance of each batch norm's input over `images`: buffer name -> (channels,).

    With these as buffers, the network in evaluation mode gives the same output on `images` as in
    training mode, and judges every other image alone. Of more than `MANY` images the layers are computed in parts,
    one norm after another, which bounds the memory.
    """
    norms = {name: module for name, module in network.named_modules() if isinstance(module, BatchNorm)}
    if not norms:
        return {}
    if len(images) > MANY:
        return _in_parts(network, norms, params, images)
    found: Params = {}

    def record(name: str, input: Tensor) -> None:
        others = [dimension for dimension in range(input.dim()) if dimension != 1]
        found[f"{name}.mean"] = input.mean(others)
        found[f"{name}.var"] = input.var(others, correction=0)

    with _watched(norms, record):
        torch.func.functional_call(network, params, (images,))
    return found


class _Enough(Exception):
    """The rest of the network is not needed."""


def _in_parts(network: nn.Module, norms: Mapping[str, BatchNorm], params: Params, images: Tensor) -> Params:
    """The statistics of each norm, given those of the norms before it, summed over parts of the images."""
    order: list[str] = []
    with _watched(norms, lambda name, input: order.append(name)):  # noqa: ARG005
        torch.func.functional_call(network, params, (images[:2],))
    found: Params = {}
    was_training = network.training
    network.eval()
    try:
        for name in order:
            found |= _summed(network, {name: norms[name]}, {**params, **found}, images)
    finally:
        network.train(was_training)
    return found


def _summed(network: nn.Module, norm: Mapping[str, BatchNorm], params: Params, images: Tensor) -> Params:
    """Mean and variance of one norm's input, from sums in float64."""
    sums: list[tuple[int, Tensor, Tensor]] = []

    def add(name: str, input: Tensor) -> None:  # noqa: ARG001
        rows = input.transpose(0, 1).flatten(1).double()
        sums.append((rows.shape[1], rows.sum(1), rows.square().sum(1)))
        raise _Enough

    with _watched(norm, add):
        for first in range(0, len(images), PART):
            with suppress(_Enough):
                torch.func.functional_call(network, params, (images[first : first + PART],))
    n = sum(count for count, _, _ in sums)
    mean = torch.stack([total for _, total, _ in sums]).sum(0) / n
    var = torch.stack([squares for _, _, squares in sums]).sum(0) / n - mean.square()
    (name,) = norm
    dtype = params[f"{name}.weight"].dtype
    return {f"{name}.mean": mean.to(dtype), f"{name}.var": var.clamp_min(0).to(dtype)}


@contextmanager
def _watched(norms: Mapping[str, BatchNorm], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Meanwhile `see` gets the name and the input of each norm before it runs; no gradients are kept."""

    def hook(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG001
        see(name, inputs[0])

    hooks = [module.register_forward_pre_hook(partial(hook, name)) for name, module in norms.items()]
    try:
        with torch.no_grad():
            yield
    finally:
        for each in hooks:
            each.remove()
