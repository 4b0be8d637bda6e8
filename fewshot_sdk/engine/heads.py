"""The last layer between tasks: what an initialization stores of it, and what a task starts from.

dense   the stored rows; n_way is fixed.  Source: the paper.  `open_any_head` makes it serve any number.
zero    rows of zeros, one for each class of the task. Only the mean row of second moments and learned rates is
        stored, because the classes of a task come in no particular order.
prototype  like zero; then the rows are computed from the class means, see `begin`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from fewshot_sdk.config.backbones import spread
from fewshot_sdk.engine.features import features
from fewshot_sdk.engine.optimizers import light
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.nets.network import HEAD, Network
from fewshot_sdk.nets.params import LearnerState, Params

Head = Literal["dense", "zero", "prototype"]
PENALTY = 1.0
PROBE_ITERATIONS = 50
PROBE_MEMORY = 2**22  # numbers in half of L-BFGS's history: bounds the memory with many classes


def open_head(stored: LearnerState, head: Head, network: nn.Module) -> LearnerState:
    """The state from which a task with `network`'s number of classes starts.

    Raises ConfigError if a dense head has a different number of rows.
    """
    rows = {name: network.get_parameter(name) for name in HEAD}
    if head == "dense":
        found, wanted = len(stored.params["head.bias"]), len(rows["head.bias"])
        if found != wanted:
            raise ConfigError(
                f"this initialization's dense head has {found} classes, the task has {wanted}; "
                "use one with a zero head (`--set head=zero` in training), which serves any number"
            )
        return stored
    # on the CPU, like all stored tensors
    zeros = {name: torch.zeros(row.shape, dtype=row.dtype) for name, row in rows.items()}

    def rows_for_all(part: Params) -> Params:
        return {name: t.expand(zeros[name].shape).clone() if name in zeros else t for name, t in part.items()}

    moments, rates = rows_for_all(stored.second_moments), rows_for_all(stored.rates)
    return replace(stored, params={**stored.params, **zeros}, second_moments=moments, rates=rates)


def open_any_head(stored: LearnerState, head: Head, network: nn.Module) -> LearnerState:
    """As `open_head`, but a zero head replaces a dense head with a different number of rows.

    The old rows belong to no class of the new task; only the mean of their second moments is kept.
    """
    if fits(stored, head, network.get_parameter("head.bias").shape[0]):
        return open_head(stored, head, network)
    return open_head(close_head(stored, "zero"), "zero", network)


def fits(stored: LearnerState, head: Head, n_way: int) -> bool:
    """Whether the initialization was made for tasks of `n_way` classes."""
    return head != "dense" or len(stored.params["head.bias"]) == n_way


def close_head(state: LearnerState, head: Head) -> LearnerState:
    """The part of a task's state that is stored: the inverse of `open_head`."""
    if head == "dense":
        return state

    def one_row(part: Params) -> Params:
        return {name: t.mean(0, keepdim=True) if name in HEAD else t for name, t in part.items()}

    body = {name: tensor for name, tensor in state.params.items() if name not in HEAD}
    return replace(state, params=body, second_moments=one_row(state.second_moments), rates=one_row(state.rates))


def new_head(method: Literal["prototypes", "probe"], network: Network, support: Tensor, targets: Tensor) -> Params:
    """A head for the network's features (n, n_features), by a method that takes no inner steps."""
    if method == "prototypes":
        return prototypes(support, targets, network.n_way, network.backbone.kind)
    return probe(support, targets, network.n_way)


def begin(network: Network, opened: LearnerState, head: Head, images: Tensor, targets: Tensor) -> LearnerState:
    """The state before a task's inner steps: `opened`, with rows from the class means for a prototype head."""
    if head != "prototype":
        return opened
    support = features(network, opened.params, images)
    head_params = prototypes(support, targets, network.n_way, network.backbone.kind)
    rows = {name: tensor.to(support.dtype) for name, tensor in head_params.items()}
    return replace(opened, params={**opened.params, **rows})


def prototypes(support: Tensor, targets: Tensor, n_way: int, kind: str) -> Params:
    """A head whose logits are minus the squared distance to each class's mean, up to a common shift and scale.

    support: features (n, n_features) of a network of that kind. Source: Snell et al. 2017, section 2.3.
    """
    return prototype_head(*class_sums(support, targets, n_way), kind)


def class_sums(support: Tensor, targets: Tensor, n_way: int) -> tuple[Tensor, Tensor]:
    """Sum of each class's features, float64 (n_way, n_features), and number of its examples, int64 (n_way,)."""
    sums = torch.zeros(n_way, support.shape[1], dtype=torch.float64).index_add_(0, targets, support.double())
    return sums, torch.bincount(targets, minlength=n_way)


def centre_of(support: Tensor, targets: Tensor, n_way: int) -> Tensor:
    """The mean of the class means of features (n, n_features): float32 (n_features,)."""
    sums, counts = class_sums(support, targets, n_way)
    return (sums / counts.unsqueeze(1)).mean(0).float()


def prototype_head(sums: Tensor, counts: Tensor, kind: str) -> Params:
    """The head with weight 2 (m - c) / s and bias (|c|^2 - |m|^2) / s for each class's mean m.

    c, the mean of the means, shifts all logits equally; it keeps them small, which limits rounding errors.
    s, `spread`, changes no decision; with it the best temperature is about 1 for networks of any width, on unseen
    characters and on mini-ImageNet's validation classes (5-way 1-shot 0.8, 5-shot 0.4).
    """
    means = sums / counts.unsqueeze(1)
    centre, scale = means.mean(0), spread(sums.shape[1], kind)
    return {
        "head.weight": (2 * (means - centre) / scale).float().contiguous(),
        "head.bias": ((centre.square().sum() - means.square().sum(1)) / scale).float(),
    }


def probe(support: Tensor, targets: Tensor, n_way: int) -> Params:
    """Multinomial logistic regression: minimizes sum_i cross-entropy_i + PENALTY / 2 |weight|^2 with L-BFGS.

    It runs on centred features, so that the penalty does not depend on where zero is.
    Source: Nocedal and Wright 2006, algorithm 7.5, as in PyTorch.
    """
    centre = support.mean(0)
    centred = support - centre
    weight = torch.zeros(n_way, support.shape[1], requires_grad=True)
    bias = torch.zeros(n_way, requires_grad=True)
    history = max(5, min(100, PROBE_MEMORY // weight.numel()))
    optimizer = light(torch.optim.LBFGS)(
        [weight, bias], max_iter=PROBE_ITERATIONS, history_size=history, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        logits = torch.addmm(bias, centred, weight.T)
        total = nn.functional.cross_entropy(logits, targets, reduction="sum")
        penalized = (total + PENALTY / 2 * weight.square().sum()) / len(targets)
        weight.grad, bias.grad = torch.autograd.grad(penalized, (weight, bias))
        return penalized.detach()

    with torch.no_grad():  # L-BFGS itself enables gradients for `loss`
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    weight, bias = weight.detach(), bias.detach()
    return {"head.weight": weight, "head.bias": bias - weight @ centre}
