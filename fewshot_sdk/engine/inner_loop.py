"""The only inner loop: a few gradient steps on one task, for training, evaluation and adaptation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from fewshot_sdk.algorithms import Part
from fewshot_sdk.config.recipe import InnerLoop
from fewshot_sdk.engine.by_hand import by_hand
from fewshot_sdk.engine.compiled import compiled
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.nets.network import Network
from fewshot_sdk.nets.params import LearnerState, Params, flatten, unflatten

Loss = Callable[[Tensor, Tensor], Tensor]  # (network output, labels) -> scalar
cross_entropy: Loss = F.cross_entropy


def fine_tune(
    network: nn.Module, start: LearnerState, images: Tensor, labels: Tensor, batches: Tensor, inner: InnerLoop,
    loss: Loss = cross_entropy, cores: int = 1,
) -> tuple[LearnerState, Tensor]:  # fmt: skip
    """The state after one gradient step on the loss of each mini-batch in turn, and the losses before each, (steps,).

    images: uint8 (n, height, width, channels); labels: int64 (n,); batches: int64 (steps, batch_size), rows of both.
    Nothing is changed in place. Where a compiled version exists, it runs on `cores` threads with the same bits for
    any number. Without one the bits differ, and depend on PyTorch's threads: callers fix these with `one_thread`.
    Source: Reptile, Algorithm 1 (U_k); Adam with beta1 = 0 continues from the start's moments.
    """
    tuner = FineTuner(network, start, inner, loss=loss)
    vector, losses = tuner.tune(images, labels, batches, cores=cores)
    return tuner.state(vector, start.updates + len(batches)), losses


class FineTuner:
    """`fine_tune` on task after task from the same start; end states are vectors that can be averaged.

    device: an accelerator that holds the network, where the tasks of a call run side by side; None for the CPU.
    The compiled version, or the one whose derivatives are written by hand, serves steps on the cross-entropy that move
    the whole network at one rate.
    """

    def __init__(
        self,
        network: nn.Module,
        start: LearnerState,
        inner: InnerLoop,
        device: torch.device | None = None,
        loss: Loss = cross_entropy,
    ) -> None:
        if inner.optimizer == "sgd":
            start = replace(start, second_moments={})
        self._network, self._start, self._inner, self._device, self._loss = network, start, inner, device, loss
        plain = device is None and inner.trainable == "all" and not start.rates and loss is cross_entropy
        self._fast = (compiled(network, start.params) or by_hand(network, start.params)) if plain else None
        self._packed = self._fast.pack(start) if self._fast else torch.empty(0)

    def tune(
        self, images: Tensor, labels: Tensor, batches: Tensor, middle: Tensor | None = None, done: int = 0,
        cores: int = 1,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The end state of one task as a vector, and the losses, (steps,).

        middle: such a vector after `done` steps, to continue from instead of the start.
        cores: threads of the compiled version.
        """
        if self._fast:
            packed = self._packed if middle is None else middle
            updates = self._start.updates + done
            return self._fast.fine_tune(packed, updates, images, labels, batches, self._inner, cores)
        self._network.train()
        begin = self._start if middle is None else self.state(middle, self._start.updates + done)
        state = _in_layout(begin, torch.channels_last)
        losses = []
        for batch in batches:
            loss, grads = loss_and_grads(
                self._network, state.params, images[batch], labels[batch], self._inner.trainable, self._loss
            )
            losses.append(loss)
            state = update(state, summed(grads, len(batch), self._inner), self._inner)
        return flatten(state), torch.stack(losses) if losses else torch.zeros(0)

    def shifted(self, middle: Tensor, end: Tensor) -> Tensor:
        """The start with `end - middle` added to its weights; the second moments are those of `end`."""
        start = self._packed if self._fast else flatten(self._start)
        n = len(start) // 2 if self._start.second_moments else len(start)
        return torch.cat([start[:n] + (end[:n] - middle[:n]), end[n:]])

    def tune_all(self, tasks: Sequence[tuple[Tensor, Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """`tune` on the (images, labels, batches) of each task, all of the same shapes."""
        if self._device is None:
            return [self.tune(*task) for task in tasks]
        images, labels, batches = (torch.stack(part) for part in zip(*tasks, strict=True))
        ends, losses = fine_tune_together(
            self._network, self._start, images, labels, batches, self._inner, self._device, self._loss
        )
        return list(zip(ends, losses, strict=True))

    def state(self, vector: Tensor, updates: int) -> LearnerState:
        """The state of an end vector, or of a mean of several."""
        return (self._fast.unpack if self._fast else unflatten)(vector, self._start, updates)


def fine_tune_together(
    network: nn.Module,
    start: LearnerState,
    images: Tensor,
    labels: Tensor,
    batches: Tensor,
    inner: InnerLoop,
    device: torch.device,
    loss: Loss = cross_entropy,
) -> tuple[Tensor, Tensor]:
    """`fine_tune` on many tasks side by side, for a GPU; the network must be on the device.

    images uint8 (tasks, n, height, width, channels), labels int64 (tasks, n), batches int64 (tasks, steps,
    batch_size). Returns the ends as vectors of `flatten`, (tasks, length), and the losses, (tasks, steps),
    both on the CPU.
    """
    network.train()
    n_tasks, steps = batches.shape[:2]

    def stacked(params: Params) -> Params:
        return {name: t.to(device).expand(n_tasks, *t.shape).contiguous() for name, t in params.items()}

    def loss_of(params: Params, images: Tensor, labels: Tensor) -> Tensor:
        return loss(functional_call(network, params, (images,)), labels)

    moments = {} if inner.optimizer == "sgd" else start.second_moments
    state = LearnerState(params=stacked(start.params), second_moments=stacked(moments), updates=start.updates)
    images, labels, batches = (tensor.to(device) for tensor in (images, labels, batches))
    each = torch.arange(n_tasks, device=device).unsqueeze(1)
    losses = torch.empty(n_tasks, steps, device=device)
    for step in range(steps):
        rows = batches[:, step]
        gradient = vmap(grad_and_value(loss_of))
        grads, losses[:, step] = gradient(state.params, images[each, rows], labels[each, rows])
        grads = {name: grads[name] for name in moving(network, state.params, inner.trainable)}
        state = update(state, summed(grads, rows.shape[1], inner), inner)
    ends = [part[name].flatten(1) for part in (state.params, state.second_moments) for name in sorted(part)]
    return torch.cat(ends, 1).cpu(), losses.cpu()


def loss_and_grads(
    network: nn.Module, params: Params, images: Tensor, labels: Tensor, trainable: Part = "all",
    loss: Loss = cross_entropy,
) -> tuple[Tensor, Params]:  # fmt: skip
    """The loss, a scalar, and its gradient with respect to the part of `params` that is trainable."""
    leaves = {name: params[name].detach().requires_grad_() for name in moving(network, params, trainable)}
    with torch.enable_grad():
        found = loss(functional_call(network, {**params, **leaves}, (images,)), labels)
    grads = torch.autograd.grad(found, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return found.detach(), dict(zip(leaves, grads, strict=True))


def moving(network: nn.Module, params: Params, trainable: Part) -> list[str]:
    """Names of the tensors that inner steps move; a norm is any module whose class name contains `Norm`.

    Raises ConfigError for the tail of a network that has none.
    """
    if trainable == "tail":
        tail = network.backbone.tail if isinstance(network, Network) else ()
        if not tail:
            raise ConfigError("trainable: only an efficientnet network has a tail; take all, head, body or norm")
        return [name for name in params if name.partition(".")[0] in (*tail, "head")]
    if trainable == "norm":
        norms = {name for name, module in network.named_modules() if "Norm" in type(module).__name__}
        return [name for name in params if name.startswith("head.") or name.rpartition(".")[0] in norms]
    return [name for name in params if trainable == "all" or name.startswith("head.") == (trainable == "head")]


def summed(grads: Params, n: int, inner: InnerLoop) -> Params:
    """Gradients of the mean loss of n images, turned into those of the sum of losses over `inner.loss_divisor`."""
    if inner.loss_divisor in (None, n):
        return grads
    return {name: g * (n / inner.loss_divisor) for name, g in grads.items()}


def update(state: LearnerState, grads: Params, inner: InnerLoop) -> LearnerState:
    """One step of the inner optimizer; weights without a gradient stay as they are.

    sgd:  p - lr g, where lr is the learned rate of p, if the state has rates
    adam: v' = beta2 v + (1 - beta2) g^2,  p - lr g / (sqrt(v' / (1 - beta2^t)) + epsilon)
    Source: Kingma & Ba, Algorithm 1, with beta1 = 0.
    """
    rate, updates = inner.learning_rate, state.updates + 1
    moments, params = dict(state.second_moments), dict(state.params)
    if inner.optimizer == "sgd":
        for name, g in grads.items():
            p = params[name]
            params[name] = p - state.rates[name] * g if state.rates else p.sub(g, alpha=rate)
        return replace(state, params=params, second_moments={}, updates=updates)
    unbias = (1 - inner.beta2**updates) ** 0.5
    for name, g in grads.items():
        p = params[name]
        v = torch.addcmul(state.second_moments[name] * inner.beta2, g, g, value=1 - inner.beta2)
        params[name] = torch.addcdiv(p, g, v.sqrt().div_(unbias).add_(inner.epsilon), value=-rate)
        moments[name] = v
    return replace(state, params=params, second_moments=moments, updates=updates)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch on one thread inside: more would round differently, be no faster on networks this small,
    and be far slower on a busy machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_layout(state: LearnerState, layout: torch.memory_format) -> LearnerState:
    """The state with kernels in that memory layout: channels last makes convolutions 1.2 times faster (measured)."""

    def stored(params: Params) -> Params:
        return {
            name: tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor
            for name, tensor in params.items()
        }

    return replace(state, params=stored(state.params), second_moments=stored(state.second_moments))
