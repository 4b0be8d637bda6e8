"""Conv4's inner loop in PyTorch where there is no compiled one: the derivatives are written by hand, not by autograd.

It does what `inner_loop` does by autograd, in 0.7 to 0.75 of the processor time. Weights, moments and gradients are one
vector each, of which every layer has views, so that Adam is a few operations. Kernels and images are stored channels
last, as the convolutions want them. A ReLU writes into the middle of the next layer's input, which has zeros around.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewshot_sdk.config.backbones import Conv4
from fewshot_sdk.config.recipe import InnerLoop
from fewshot_sdk.nets.network import Network
from fewshot_sdk.nets.padding import same_padding
from fewshot_sdk.nets.params import LearnerState, Params

_aten = torch.ops.aten


def by_hand(network: nn.Module, params: Params) -> Conv4ByHand | None:
    """The inner loop of a network; None unless it is a Conv4 with batch norm, with weights in float32."""
    if not isinstance(network, Network) or not isinstance(network.backbone, Conv4) or network.backbone.judges_alone:
        return None
    if any(tensor.dtype != torch.float32 or tensor.device.type != "cpu" for tensor in params.values()):
        return None
    return Conv4ByHand(network, network.backbone)


@dataclass(frozen=True)
class _Input:
    """A layer's padded input, (n, channels, rows, columns), and where its image begins and ends."""

    padded: Tensor
    rows: slice
    columns: slice

    def middle(self, padded: Tensor) -> Tensor:
        """The image inside the padding of a tensor of this shape."""
        return padded[:, :, self.rows, self.columns]


@dataclass(frozen=True)
class _Trace:
    """What a layer leaves for the backward pass; z: its output before the ReLU; chosen: by the pool, if it has one."""

    y: Tensor
    mean: Tensor
    scale: Tensor
    norm: Tensor
    z: Tensor
    chosen: Tensor | None


class Conv4ByHand:
    """The functions of `CompiledConv4` for an inner loop, to the same results up to rounding."""

    def __init__(self, network: Network, backbone: Conv4) -> None:
        self._pixels, self._epsilon = network.get_submodule("pixels"), backbone.norm_epsilon
        self._pool, self._stride = (True, 1) if backbone.downsample == "pool" else (False, 2)
        self._shapes = {name: tensor.shape for name, tensor in network.named_parameters()}

    def fine_tune(
        self, packed: Tensor, updates: int, images: Tensor, labels: Tensor, batches: Tensor, inner: InnerLoop,
        cores: int = 1,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """`inner_loop.fine_tune` on a packed state, equal up to rounding; biases before a norm do not move at all.

        cores: not used; PyTorch's threads are the caller's (see `one_thread`).
        """
        end, adam = packed.clone(), inner.optimizer == "adam"
        theta, moments = end.chunk(2) if adam else (end, end)
        gradient, root, losses = torch.zeros_like(theta), torch.empty_like(theta), []
        weights, grads = self._views(theta), self._views(gradient)
        inputs = self._inputs(batches.shape[1], *images.shape[1:])
        with torch.no_grad():
            for done, rows in enumerate(batches, updates + 1):
                traces, logits = self._forward(images[rows], inputs, weights)
                logs, of_label = logits.log_softmax(1), labels[rows].unsqueeze(1)
                losses.append(-logs.gather(1, of_label).mean())
                d = logs.exp().scatter_add_(1, of_label, logs.new_full(of_label.shape, -1))
                self._backward(d.div_(inner.loss_divisor or len(rows)), inputs, traces, weights, grads)
                if not adam:
                    theta.sub_(gradient, alpha=inner.learning_rate)
                    continue
                moments.mul_(inner.beta2).addcmul_(gradient, gradient, value=1 - inner.beta2)
                torch.sqrt(moments, out=root).div_((1 - inner.beta2**done) ** 0.5).add_(inner.epsilon)
                theta.addcdiv_(gradient, root, value=-inner.learning_rate)
        return end, torch.stack(losses) if losses else torch.zeros(0)

    def pack(self, state: LearnerState) -> Tensor:
        """Weights and, for Adam, second moments as one vector, kernels channels last."""
        tensors = [part[name] for part in (state.params, state.second_moments) if part for name in self._shapes]
        return torch.cat([(t.permute(0, 2, 3, 1) if t.dim() == 4 else t).flatten() for t in tensors])

    def unpack(self, vector: Tensor, like: LearnerState, updates: int) -> LearnerState:
        """The state of a vector made by `pack`; `like` gives the order of the names."""
        halves = vector.chunk(2) if like.second_moments else (vector,)
        params, *moments = ({name: view.contiguous() for name, view in self._views(half).items()} for half in halves)
        return LearnerState(
            params={name: params[name] for name in like.params},
            second_moments={name: moments[0][name] for name in like.second_moments},
            updates=updates,
        )

    def _views(self, vector: Tensor) -> Params:
        parts = torch.split(vector, [shape.numel() for shape in self._shapes.values()])
        return {
            name: part.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2) if len(shape) == 4 else part.view(shape)
            for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)
        }

    def _inputs(self, n: int, height: int, width: int, channels: int) -> list[_Input]:
        """The inputs of the four layers for n images, all zero."""
        found = []
        for i in range(1, 5):
            (top, below), (left, right) = (same_padding(side, 3, self._stride) for side in (height, width))
            zeros = torch.zeros(n, height + top + below, width + left + right, channels).permute(0, 3, 1, 2)
            found.append(_Input(padded=zeros, rows=slice(top, top + height), columns=slice(left, left + width)))
            height, width, channels = -(-height // 2), -(-width // 2), self._shapes[f"norm{i}.bias"][0]
        return found

    def _forward(self, images: Tensor, inputs: list[_Input], weights: Params) -> tuple[list[_Trace], Tensor]:
        """What each layer leaves for the backward pass, and the logits; the images go to the inputs."""
        inputs[0].middle(inputs[0].padded).copy_(self._pixels(images))
        traces: list[_Trace] = []
        for i, at in enumerate(inputs, 1):
            if traces:
                torch.clamp_min(traces[-1].z, 0, out=at.middle(at.padded))
            y = torch.conv2d(at.padded, weights[f"conv{i}.weight"], stride=self._stride)  # the norm takes a bias away
            gamma, beta = weights[f"norm{i}.weight"], weights[f"norm{i}.bias"]
            norm, mean, scale = torch.native_batch_norm(y, gamma, beta, None, None, True, 0.0, self._epsilon)
            z, chosen = norm, None
            if self._pool:
                z, chosen = _aten.max_pool2d_with_indices(norm, [2, 2], [2, 2], [0, 0], [1, 1], True)
            traces.append(_Trace(y=y, mean=mean, scale=scale, norm=norm, z=z, chosen=chosen))
        features = traces[-1].z.clamp_min(0).flatten(1)
        return traces, torch.addmm(weights["head.bias"], features, weights["head.weight"].T)

    def _backward(self, d: Tensor, inputs: list[_Input], traces: list[_Trace], weights: Params, grads: Params) -> None:
        """Set `grads` from d, the gradient of the logits; they stay 0 for biases before a norm."""
        z = traces[-1].z
        torch.mm(d.T, z.clamp_min(0).flatten(1), out=grads["head.weight"])
        torch.sum(d, 0, out=grads["head.bias"])
        d = (d @ weights["head.weight"]).view(z.shape)
        for i in range(4, 0, -1):
            at, t = inputs[i - 1], traces[i - 1]
            d = _aten.threshold_backward(d, t.z, 0)
            if t.chosen is not None:
                pool = [2, 2], [2, 2], [0, 0], [1, 1], True
                d = _aten.max_pool2d_with_indices_backward(d, t.norm, *pool, t.chosen)
            norm = weights[f"norm{i}.weight"], None, None, t.mean, t.scale, True, self._epsilon, [True, True, True]
            d, by_gamma, by_beta = _aten.native_batch_norm_backward(d, t.y, *norm)
            form = None, [self._stride] * 2, [0, 0], [1, 1], False, [0, 0], 1, [i > 1, True, False]
            d, by_kernel, _ = _aten.convolution_backward(d, at.padded, weights[f"conv{i}.weight"], *form)
            for name, found in (
                (f"norm{i}.weight", by_gamma),
                (f"norm{i}.bias", by_beta),
                (f"conv{i}.weight", by_kernel),
            ):
                grads[name].copy_(found)
            d = at.middle(d) if i > 1 else d
