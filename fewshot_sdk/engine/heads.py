"""The last layer between tasks: what an initialization stores of it, and what a task starts from.

dense   the stored rows; n_way is fixed.  Source: the paper.  `open_any_head` lets it serve another number, too.
zero    rows of zeros, as many as the task has classes. Only the second moments and learned rates of one row
        are stored, the mean over the rows: the classes of a task come in no particular order.
prototype  as zero; then each row is set to its class's mean, see `fewshot_sdk.adaptation.methods.begin`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from fewshot_sdk.errors import ConfigError
from fewshot_sdk.nets.network import HEAD
from fewshot_sdk.nets.params import LearnerState, Params

Head = Literal["dense", "zero", "prototype"]


def open_head(stored: LearnerState, head: Head, network: nn.Module) -> LearnerState:
    """The state that a task of `network`'s number of classes starts from.

    Raises ConfigError if a dense head has another number of rows.
    """
    rows = {name: network.get_parameter(name) for name in HEAD}
    if head == "dense":
        found, wanted = len(stored.params["head.bias"]), len(rows["head.bias"])
        if found != wanted:
            raise ConfigError(
                f"this initialization's dense head tells {found} classes apart, the task has {wanted}; "
                "take one with a zero head, such as `omniglot`, which serves any number"
            )
        return stored
    zeros = {
        name: torch.zeros(row.shape, dtype=row.dtype) for name, row in rows.items()
    }  # on the CPU, as all that is stored

    def rows_for_all(part: Params) -> Params:
        return {name: t.expand(zeros[name].shape).clone() if name in zeros else t for name, t in part.items()}

    moments, rates = rows_for_all(stored.second_moments), rows_for_all(stored.rates)
    return replace(stored, params={**stored.params, **zeros}, second_moments=moments, rates=rates)


def open_any_head(stored: LearnerState, head: Head, network: nn.Module) -> LearnerState:
    """As `open_head`, but a dense head of another number of rows gives way to a zero head.

    Its rows belong to no class of the new task; what it knows of a row's second moments is kept, as their mean.
    """
    if fits(stored, head, network.get_parameter("head.bias").shape[0]):
        return open_head(stored, head, network)
    return open_head(close_head(stored, "zero"), "zero", network)


def fits(stored: LearnerState, head: Head, n_way: int) -> bool:
    """Whether the initialization was made for tasks of `n_way` classes."""
    return head != "dense" or len(stored.params["head.bias"]) == n_way


def close_head(state: LearnerState, head: Head) -> LearnerState:
    """What is stored of a task's state: the inverse of `open_head`."""
    if head == "dense":
        return state

    def one_row(part: Params) -> Params:
        return {name: t.mean(0, keepdim=True) if name in HEAD else t for name, t in part.items()}

    body = {name: tensor for name, tensor in state.params.items() if name not in HEAD}
    return replace(state, params=body, second_moments=one_row(state.second_moments), rates=one_row(state.rates))
