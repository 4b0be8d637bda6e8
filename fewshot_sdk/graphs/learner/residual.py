"""A residual network in a learner: the states of its loop, the forward and backward pass, and the tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.backbone import HEAD
from fewshot_sdk.config.recipe import Preprocessing, Residual
from fewshot_sdk.graphs.learner.conv4 import array
from fewshot_sdk.graphs.nodes import Nodes
from fewshot_sdk.graphs.weights import Params

_SHORTEST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution on images of (height, width) `sides`; side: of the kernel, of which the padding is half."""

    name: str
    side: int
    stride: int
    filters: int
    depth: int
    sides: tuple[int, int]

    @property
    def left_over(self) -> list[int]:
        """Numbers of rows and columns at the end that the kernel's last position does not reach."""
        return [(side + 2 * (self.side // 2) - self.side) % self.stride for side in self.sides]


class ResidualForm:
    """A residual network as convolutions on images (n, channels, height, width).

    The states of the body are kernel and bias of each convolution. Each image is judged alone, in any mode.
    """

    def __init__(self, backbone: Residual, preprocessing: Preprocessing) -> None:
        self._preprocessing, self._n_blocks, self.n_features = preprocessing, len(backbone.widths), backbone.widths[-1]
        sides, depth = (preprocessing.height, preprocessing.width), backbone.widths[0]
        self._parts = {
            "stem": Convolution(name="stem", side=3, stride=2, filters=depth, depth=preprocessing.channels, sides=sides)
        }
        sides = _half(sides)
        for i, width in enumerate(backbone.widths, 1):
            stride, after = (1, sides) if i == 1 else (2, _half(sides))
            shapes = {"first": (3, stride, depth, sides), "second": (3, 1, width, after)}
            if i > 1:
                shapes["shortcut"] = (1, stride, depth, sides)
            for part, (side, step, channels, before) in shapes.items():
                name = f"block{i}.{part}"
                self._parts[name] = Convolution(
                    name=name, side=side, stride=step, filters=width, depth=channels, sides=before
                )
            sides, depth = after, width
        self._positions = sides[0] * sides[1]
        self._weights: dict[str, tuple[str, str]] = {}
        self._inputs: dict[str, str] = {}
        self._outputs: list[str] = []
        self._end = ("", "")

    def images(self, g: Nodes, name: str) -> str:
        """uint8 images as input of the first layer."""
        x = g("Div", g("Cast", name, to=1), g.scalar(255))
        x = g("Div", g("Sub", x, g.constant(self._preprocessing.mean)), g.constant(self._preprocessing.std))
        return g("Transpose", x, perm=[0, 3, 1, 2])

    def prepared(self, g: Nodes, x: str) -> str:  # noqa: ARG002
        """The support set's images, unchanged: nothing is computed before the first step."""
        return x

    def states(self, params: Params) -> list[NDArray[np.float64]]:
        """Kernel and bias of each convolution."""
        return [array(params[f"{name}.conv.{part}"]) for name in self._parts for part in ("weight", "bias")]

    def head(self, params: Params) -> NDArray[np.float64]:
        """Weights, then the bias: (features + 1, n_way)."""
        weight, bias = (array(params[name]) for name in HEAD)
        return np.concatenate([weight.T, bias[None]])

    def forward(self, b: Nodes, x: str, states: Sequence[str]) -> str:
        """The features of a mini-batch, with a column of ones."""
        self._weights = dict(zip(self._parts, zip(states[::2], states[1::2], strict=True), strict=True))
        self._inputs = {}
        x = b("Relu", self._convolve(b, "stem", x))
        self._outputs = [x]
        for i in range(1, self._n_blocks + 1):
            y = self._convolve(b, f"block{i}.second", b("Relu", self._convolve(b, f"block{i}.first", x)))
            x = b("Relu", b("Add", y, self._convolve(b, f"block{i}.shortcut", x) if i > 1 else x))
            self._outputs.append(x)
        means = b("ReduceMean", x, b.integers(2, 3), keepdims=0)
        length = b("Max", b("ReduceL2", means, b.integers(1), keepdims=1), b.scalar(_SHORTEST))
        even = b("Div", means, length)
        self._end = even, length
        return b("Pad", b("Mul", even, b.scalar(self.n_features**0.5)), b.integers(0, 0, 0, 1), b.scalar(1))

    def backward(self, b: Nodes, gradient: str) -> list[str]:
        """Gradients of the states from that of the features, (n, features): the backward pass of `forward`."""
        even, length = self._end
        gradient = b("Mul", gradient, b.scalar(self.n_features**0.5))
        along = b("ReduceSum", b("Mul", gradient, even), b.integers(1), keepdims=1)
        gradient = b("Div", b("Sub", gradient, b("Mul", even, along)), length)
        gradient = b("Unsqueeze", b("Div", gradient, b.scalar(self._positions)), b.integers(2, 3))
        found: dict[str, list[str]] = {}
        for i in range(self._n_blocks, 0, -1):
            first, second, shortcut = (f"block{i}.{part}" for part in ("first", "second", "shortcut"))
            gradient = _through_relu(b, gradient, self._outputs[i])
            found[second] = self._by_weights(b, second, gradient)
            inner = _through_relu(b, self._by_input(b, second, gradient), self._inputs[second])
            found[first] = self._by_weights(b, first, inner)
            past = gradient
            if i > 1:
                found[shortcut] = self._by_weights(b, shortcut, gradient)
                past = self._by_input(b, shortcut, gradient)
            gradient = b("Add", self._by_input(b, first, inner), past)
        found["stem"] = self._by_weights(b, "stem", _through_relu(b, gradient, self._outputs[0]))
        return [part for name in self._parts for part in found[name]]

    def classify(
        self, g: Nodes, x: str, queries: str, ends: Sequence[str], head: str, params: Params  # noqa: ARG002
    ) -> tuple[str, dict[str, tuple[str, tuple[int, ...]]]]:  # fmt: skip
        """The queries' logits, and the classifier's tensors: name in PyTorch -> result in the graph and shape."""
        logits = g("MatMul", self.forward(g, queries, ends), head)
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, (kernel, bias) in self._weights.items():
            part = self._parts[name]
            found[f"{name}.conv.weight"] = kernel, (part.filters, part.depth, part.side, part.side)
            found[f"{name}.conv.bias"] = bias, (part.filters,)
        return logits, found

    def by_class(self, g: Nodes, rows: str) -> str:
        """The head's weights, (features, n_way), in PyTorch's layout, (n_way, features)."""
        return g("Transpose", rows, perm=[1, 0])

    def _convolve(self, b: Nodes, name: str, x: str) -> str:
        part = self._parts[name]
        self._inputs[name] = x
        return b("Conv", x, *self._weights[name], strides=[part.stride] * 2, pads=[part.side // 2] * 4)

    def _by_input(self, b: Nodes, name: str, gradient: str) -> str:
        part = self._parts[name]
        return b(
            "ConvTranspose", gradient, self._weights[name][0],
            strides=[part.stride] * 2, pads=[part.side // 2] * 4, output_padding=part.left_over,
        )  # fmt: skip

    def _by_weights(self, b: Nodes, name: str, gradient: str) -> list[str]:
        """Gradients of kernel and bias; the kernel's: input convolved with `gradient`, images and channels swapped."""
        part = self._parts[name]
        x, d = (b("Transpose", which, perm=[1, 0, 2, 3]) for which in (self._inputs[name], gradient))
        taps = b("Conv", x, d, dilations=[part.stride] * 2, pads=[part.side // 2] * 4)
        if any(part.left_over):
            taps = b("Slice", taps, b.integers(0, 0), b.integers(part.side, part.side), b.integers(2, 3))
        return [b("Transpose", taps, perm=[1, 0, 2, 3]), b("ReduceSum", gradient, b.integers(0, 2, 3), keepdims=0)]


def _through_relu(b: Nodes, gradient: str, output: str) -> str:
    """The gradient where a ReLU's output is above zero, otherwise 0."""
    return b("Mul", b("Cast", b("Greater", output, b.scalar(0)), to=1), gradient)


def _half(sides: tuple[int, int]) -> tuple[int, int]:
    return -(-sides[0] // 2), -(-sides[1] // 2)
