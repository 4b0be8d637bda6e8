"""Meta-gradients of a task's last loss with respect to the initialization.

They go through the inner steps (the MAML family) or through class means (ProtoNet).
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.config.backbones import spread
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop
from fewshot_sdk.data.tasks import Task
from fewshot_sdk.engine.compiled import CompiledConv4, compiled
from fewshot_sdk.engine.heads import Head, open_head
from fewshot_sdk.engine.inner_loop import Loss, cross_entropy, moving, summed, update
from fewshot_sdk.engine.processors import multiplies_bfloat16
from fewshot_sdk.meta.first_order import check_grouped, split_batches
from fewshot_sdk.nets.network import HEAD, Network
from fewshot_sdk.nets.params import LearnerState, Params, learned, with_learned
from fewshot_sdk.tables import referred

Gradients = tuple[list[Tensor], list[Tensor], Tensor]  # tensors computed from the leaves, their gradients, all losses


class Gradient(Protocol):
    """`contribution` in `ALGORITHMS`, for an algorithm that is not first-order."""

    def __call__(
        self, network: nn.Module, stored: LearnerState, task: Task, inner: InnerLoop, meta: MetaLoop,
        head: Head | None, loss: Loss,
    ) -> tuple[Params, Tensor]:  # fmt: skip
        """The gradient of the task's last loss for all that outer steps move, and its mini-batches' losses, (k,)."""


def moved_by_outer_steps(network: nn.Module, stored: LearnerState, inner: InnerLoop, meta: MetaLoop) -> list[str]:
    """Names of what outer steps move: all that is `learned`; without inner steps, `inner.trainable` of it."""
    if ALGORITHMS[meta.algorithm].takes_steps:
        return list(learned(stored))
    ours = isinstance(network, Network)
    return [name for name in moving(network, stored.params, inner.trainable) if not (ours and name in HEAD)]


def gradient(
    network: nn.Module, stored: LearnerState, task: Task, inner: InnerLoop, meta: MetaLoop, head: Head | None,
    loss: Loss = cross_entropy,
) -> tuple[Params, Tensor]:  # fmt: skip
    """The contribution of one task, by `meta.algorithm`: see `Gradient`."""
    found = cast("Gradient", referred(ALGORITHMS[meta.algorithm].contribution))
    return found(network, stored, task, inner, meta, head, loss)


def meta_gradient(
    network: nn.Module,
    stored: LearnerState,
    task: Task,
    inner: InnerLoop,
    meta: MetaLoop,
    head: Head | None,
    loss: Loss = cross_entropy,
) -> tuple[Params, Tensor]:
    """d L_k(U_{k-1}(phi)) / d phi for all that is `learned`, and the losses of all k mini-batches, (k,).

    phi is the stored state, U the inner steps on all mini-batches but the last, L_k the loss of the last one; see
    `split_batches`. All second-derivative terms are included. Runs the C code where there is a compiled version.
    Source: Finn et al. 2017, Algorithm 1; Raghu et al. 2020 (ANIL); Oh et al. 2021 (BOIL); Li et al. 2017 (Meta-SGD).
    """
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in learned(stored).items()}
    with torch.enable_grad():
        state = with_learned(stored, leaves)
        if head is not None:
            state = open_head(state, head, network)
    compilable = loss is cross_entropy and inner.optimizer == "sgd" and inner.loss_divisor is None
    compiled_network = compiled(network, state.params) if compilable else None
    if compiled_network:
        ends, gradients, losses = _by_compiled(compiled_network, network, state, task, inner, meta)
    else:
        ends, gradients, losses = _by_autograd(network, state, task, inner, meta, loss)
    found = torch.autograd.grad(ends, list(leaves.values()), gradients, allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True)), losses


def _by_compiled(
    compiled_network: CompiledConv4,
    network: nn.Module,
    state: LearnerState,
    task: Task,
    inner: InnerLoop,
    meta: MetaLoop,
) -> Gradients:
    first, (last,) = split_batches(task, inner, meta)
    names = moving(network, state.params, inner.trainable)
    same = inner.learning_rate
    rates = {name: state.rates[name] if state.rates else torch.full_like(state.params[name], same) for name in names}
    with torch.no_grad():
        by_params, by_rates, losses = compiled_network.gradients(
            state, rates, task.support, task.support_labels, first, last
        )
    ends = [(state.params[name], gradient) for name, gradient in by_params.items()]
    ends += [(rates[name], gradient) for name, gradient in by_rates.items()]
    of_leaves = [(end, gradient) for end, gradient in ends if end.requires_grad]  # not the zero rows of a head
    return [end for end, _ in of_leaves], [gradient for _, gradient in of_leaves], losses


def _by_autograd(
    network: nn.Module, state: LearnerState, task: Task, inner: InnerLoop, meta: MetaLoop, loss: Loss
) -> Gradients:
    first, (last,) = split_batches(task, inner, meta)
    network.train()

    def loss_of(params: Params, batch: Tensor) -> Tensor:
        return loss(functional_call(network, params, (task.support[batch],)), task.support_labels[batch])

    with torch.enable_grad():
        for start in state.params.values():
            start.requires_grad_()  # also the zero rows of a head, which no leaf contains
        names, losses = moving(network, state.params, inner.trainable), []
        for batch in first:
            losses.append(loss_of(state.params, batch))
            moved = [state.params[name] for name in names]
            gradients = torch.autograd.grad(
                losses[-1], moved, create_graph=True, allow_unused=True, materialize_grads=True
            )
            state = update(state, summed(dict(zip(names, gradients, strict=True)), len(batch), inner), inner)
        losses.append(loss_of(state.params, last))
    return [losses[-1]], [torch.ones_like(losses[-1])], torch.stack(losses).detach()


def prototype_gradient(
    network: nn.Module, stored: LearnerState, task: Task, inner: InnerLoop, meta: MetaLoop,
    head: Head | None = None, loss: Loss = cross_entropy,  # noqa: ARG001
) -> tuple[Params, Tensor]:  # fmt: skip
    """The gradient of the loss on the tail's images, classified by the class means of the others, and that loss, (1,).

    The logits are minus the squared distances between features, scaled as by `heads.prototype_head`. All images go
    through the network together. For a network that is not ours, its output is the features.
    Raises DataError for a support set that is not grouped by class.  Source: Snell et al. 2017, Algorithm 1.
    """
    check_grouped(task)
    body, scale = network, 1.0
    if isinstance(network, Network):
        body = network.before_head()
        scale = spread(network.get_parameter(HEAD[0]).shape[1], network.backbone.kind)
    names = moved_by_outer_steps(network, stored, inner, meta)
    leaves = {name: stored.params[name].detach().requires_grad_() for name in names}
    params = {name: p for name, p in stored.params.items() if name not in HEAD or body is network} | leaves
    body.train()
    with torch.enable_grad():
        rounded = inner.precision == "bfloat16" and multiplies_bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rounded):
            features = functional_call(body, params, (task.support,))
        by_class = features.to(next(iter(leaves.values())).dtype).reshape(task.n_way, meta.k_shot, -1)
        means = by_class[:, : -meta.tail_shots].mean(1)
        queries = by_class[:, -meta.tail_shots :].flatten(0, 1)
        logits = -(queries.unsqueeze(1) - means).square().sum(2) / scale
        tail_loss = F.cross_entropy(logits, torch.arange(task.n_way).repeat_interleave(meta.tail_shots))
    gradients = torch.autograd.grad(tail_loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True)), tail_loss.detach().unsqueeze(0)
