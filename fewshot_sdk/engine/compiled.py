"""Conv4 in C: what `inner_loop`, `meta.second_order` and `nets.conv4` do, several times faster; float32 only."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_sdk.config.backbone import BackboneSettings
from fewshot_sdk.config.backbones import BACKBONES, Conv4
from fewshot_sdk.config.recipe import InnerLoop
from fewshot_sdk.engine.compiler import library
from fewshot_sdk.nets.network import HEAD, Network
from fewshot_sdk.nets.params import LearnerState, Params
from fewshot_sdk.tables import referred

MAX_THREADS = 4  # threads per step: for 28 x 28 pixels the last layer has only four positions
CompiledNetwork = Callable[[Network], "CompiledConv4 | None"]  # the function that `BACKBONES` names as `compiled`
_compiled: WeakKeyDictionary[Network, CompiledConv4 | None] = WeakKeyDictionary()


def compiled(network: nn.Module, params: Params) -> CompiledConv4 | None:
    """The compiled version of a network; None where there is no C code, for a backbone that has none,
    or for weights other than float32."""
    if not isinstance(network, Network) or not (reference := BACKBONES[network.backbone.kind].compiled):
        return None
    if any(tensor.dtype != torch.float32 for tensor in params.values()):
        return None
    if network not in _compiled:
        _compiled[network] = cast("CompiledNetwork", referred(reference))(network)
    return _compiled[network]


def compile_conv4(network: Network) -> CompiledConv4 | None:
    """The compiled version of Conv4 with batch norm; None for another norm or where there is no C code."""
    backbone = network.backbone
    if not runs_in_c(backbone) or not (code := library()):
        return None
    return CompiledConv4(network, cast("Conv4", backbone), code)


def runs_in_c(backbone: BackboneSettings) -> bool:
    """Whether there is C code for this backbone."""
    return bool(BACKBONES[backbone.kind].compiled) and not backbone.judges_alone


class _Network(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("height", "width", "channels", "filters", "pool", "ways", "pairs")),
        ("epsilon", ctypes.c_float),
    )


class _Rule(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("adam", "divisor")),
        *((name, ctypes.c_double) for name in ("rate", "beta2", "epsilon")),
    )


class CompiledConv4:
    """The C code with the settings and working memory of one network. Only one thread at a time may use it."""

    def __init__(self, network: Network, backbone: Conv4, code: ctypes.CDLL) -> None:
        self._code = code
        self._backbone, self._preprocessing = backbone, network.preprocessing
        self.n_way = network.n_way
        lanes = code.conv4_lanes()
        self._filters = -(-self._backbone.filters // lanes) * lanes  # padded with zeros
        values = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(-1, 1, 1, self._preprocessing.channels)
        pixels = network.get_submodule("pixels")
        self._values = pixels(values).float().view(256, -1).T.contiguous()  # the network's input for each pixel value
        self._memory = torch.empty(0, dtype=torch.uint8)

    def fine_tune(
        self, packed: Tensor, updates: int, images: Tensor, labels: Tensor, batches: Tensor, inner: InnerLoop,
        cores: int = 1,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """`inner_loop.fine_tune` on a packed state, equal up to rounding; biases before a norm do not move at all.

        cores: threads per step, at most four; the bits do not depend on it.
        """
        cores = min(cores, MAX_THREADS)
        self._check(images, batches, labels)
        (steps, size), adam = batches.shape, inner.optimizer == "adam"
        end = packed.clone()
        theta, moments = end.chunk(2) if adam else (end, end)
        grads, losses = torch.empty_like(theta), torch.empty(steps)
        network = self._network(inner.precision == "bfloat16")
        rule = _Rule(adam, inner.loss_divisor or size, inner.learning_rate, inner.beta2, inner.epsilon)
        images, labels, batches = images.contiguous(), labels.contiguous(), batches.contiguous()
        self._code.conv4_fine_tune(
            ctypes.byref(network),
            *(_at(theta), _at(moments), ctypes.c_int64(updates), ctypes.byref(rule)),
            *(_at(images), _at(labels), _at(batches), size, steps, _at(self._values)),
            *(_at(grads), _at(losses), cores),
            _at(self._workspace(self._code.conv4_bytes(ctypes.byref(network), size, cores))),
        )
        return end, losses

    def gradients(
        self, start: LearnerState, rates: Params, images: Tensor, labels: Tensor, first: Tensor, last: Tensor
    ) -> tuple[Params, Params, Tensor]:
        """Meta-gradients of the loss on the rows `last`, after one step of plain SGD on each mini-batch of `first`.

        Returns the gradients with respect to the start's weights and, if the start has learned rates, to those; and
        the losses of all mini-batches, (steps + 1,). first: (steps, batch_size), row numbers.
        rates: one for every single weight that the steps move.
        """
        for rows in (first, last):
            self._check(images, rows, labels)
        everywhere = {name: rates.get(name, torch.zeros_like(p)) for name, p in start.params.items()}
        theta, rate = self._pack(start.params), self._pack(everywhere)
        (steps, size), gradient, by_rates = first.shape, torch.empty_like(theta), torch.empty_like(theta)
        losses, network, deep = torch.empty(steps + 1), self._network(pairs=False), not rates.keys() <= set(HEAD)
        images, labels, first, last = (part.contiguous() for part in (images, labels, first, last))
        needed = self._code.conv4_gradient_bytes(ctypes.byref(network), size, steps, len(last), deep)
        self._code.conv4_gradient(
            ctypes.byref(network),
            *(_at(theta), _at(rate), deep, _at(images), _at(labels), _at(first), size, steps, _at(last), len(last)),
            *(_at(self._values), _at(gradient), _at(by_rates), _at(losses), _at(self._workspace(needed))),
        )
        found = self._unpack(by_rates, start.params) if start.rates else {}
        return self._unpack(gradient, start.params), {name: found[name] for name in rates if name in found}, losses

    def logits(self, theta: Tensor, images: Tensor, norms: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (n, n_way) for packed weights, and the statistics of each layer's norm, (4, mean and var, filters).

        norms: the statistics to use; None takes those of the images themselves.
        """
        rows = torch.arange(len(images))
        self._check(images, rows)
        found, logits = torch.empty(4, 2, self._filters), torch.empty(len(images), self.n_way)
        network = self._network(pairs=False)
        images = images.contiguous()
        self._code.conv4_predict(
            ctypes.byref(network),
            *(_at(theta), _at(images), _at(rows), len(images), _at(self._values)),
            *(None if norms is None else _at(norms), _at(found), _at(logits)),
            _at(self._workspace(self._code.conv4_bytes(ctypes.byref(network), len(images), 1))),
        )
        return logits, found

    def pack(self, state: LearnerState) -> Tensor:
        """Weights and, for Adam, second moments as one vector in the layout of the C code."""
        return torch.cat([self._pack(part) for part in (state.params, state.second_moments) if part])

    def unpack(self, vector: Tensor, like: LearnerState, updates: int) -> LearnerState:
        """The state of a vector made by `pack`; `like` gives the names and shapes."""
        adam = bool(like.second_moments)
        theta, moments = vector.chunk(2) if adam else (vector, vector)
        return LearnerState(
            params=self._unpack(theta, like.params),
            second_moments=self._unpack(moments, like.second_moments) if adam else {},
            updates=updates,
        )

    def _pack(self, params: Params) -> Tensor:
        filters, wide = self._backbone.filters, self._filters
        parts: list[Tensor] = []
        for i in range(1, 5):
            kernel = params[f"conv{i}.weight"].permute(2, 3, 1, 0).flatten(0, 1)  # tap, channel, filter
            if i == 1:
                kernel = kernel.flatten(0, 1)
                kernel = F.pad(kernel, (0, wide - filters, 0, len(kernel) % 2))
            else:
                kernel = F.pad(kernel, (0, wide - filters, 0, wide - filters))
            vectors = [params[name] for name in (f"conv{i}.bias", f"norm{i}.weight", f"norm{i}.bias")]
            parts += [kernel, *(F.pad(vector, (0, wide - filters)) for vector in vectors)]
        weight, bias = (params[name] for name in HEAD)
        rows = weight.view(len(bias), filters, -1).transpose(1, 2)  # class, position, filter
        return torch.cat([part.flatten() for part in [*parts, F.pad(rows, (0, wide - filters)), bias]])

    def _unpack(self, vector: Tensor, like: Params) -> Params:
        filters, wide = self._backbone.filters, self._filters
        found: Params = {}

        def take(*shape: int) -> Tensor:
            nonlocal vector
            size = torch.Size(shape).numel()
            taken, vector = vector[:size].view(shape), vector[size:]
            return taken

        for i in range(1, 5):
            channels = like[f"conv{i}.weight"].shape[1]
            kernel = take(9 * (channels if i == 1 else wide), wide)
            if i == 1 and len(kernel) % 2:
                take(1, wide)
            kernel = kernel.view(3, 3, -1, wide)[:, :, :channels, :filters]
            found[f"conv{i}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
            for name in (f"conv{i}.bias", f"norm{i}.weight", f"norm{i}.bias"):
                found[name] = take(wide)[:filters].clone()
        weight, bias = HEAD
        rows, features = like[weight].shape
        found[weight] = take(rows, features // filters, wide)[..., :filters].transpose(1, 2).flatten(1).contiguous()
        found[bias] = take(rows).clone()
        return {name: found[name] for name in like}

    def _network(self, pairs: bool) -> _Network:
        pixels = self._preprocessing
        return _Network(
            *(pixels.height, pixels.width, pixels.channels, self._filters, self._backbone.downsample == "pool"),
            *(self.n_way, pairs and b"bf16" in self._code.conv4_instructions(), self._backbone.norm_epsilon),
        )

    def _workspace(self, needed: int) -> Tensor:
        if len(self._memory) < needed:
            self._memory = torch.empty(needed, dtype=torch.uint8)
        return self._memory

    def _check(self, images: Tensor, rows: Tensor, labels: Tensor | None = None) -> None:
        pixels = self._preprocessing
        expected = (pixels.height, pixels.width, pixels.channels)
        if images.dtype != torch.uint8 or images.shape[1:] != expected:
            raise ValueError(f"expected uint8 images (n, {expected}), found {images.dtype} {list(images.shape)}")
        if rows.dtype != torch.int64 or (rows.numel() and not (rows.min() >= 0 and rows.max() < len(images))):
            raise ValueError(f"expected int64 rows below {len(images)}, found {rows.dtype} up to {rows.max()}")
        if labels is None:
            return
        if len(labels) != len(images) or not ((labels >= 0) & (labels < self.n_way)).all():
            raise ValueError(f"expected {len(images)} labels below {self.n_way}, found {labels.tolist()}")


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
