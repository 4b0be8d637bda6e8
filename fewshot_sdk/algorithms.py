"""The table of meta-learning algorithms: what each asks of the loops, and where its code is.

A new one is its row here and a module in `meta/` with the function that it refers to, imported when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fewshot_sdk.errors import ConfigError
from fewshot_sdk.tables import row_of

Algorithm: TypeAlias = str  # a name in ALGORITHMS
Part = Literal["all", "head", "body", "norm"]
Outer = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "adamax", "radam", "rmsprop", "adagrad"]
OUTER_NAMES: dict[Outer, str] = {
    "sgd": "plain descent",
    "momentum": "SGD with momentum 0.9",
    "nesterov": "SGD with Nesterov momentum 0.9",
    "adam": "Adam",
    "adamw": "AdamW",
    "adamax": "Adamax",
    "radam": "RAdam",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
}


@dataclass(frozen=True, kw_only=True)
class AlgorithmRow:
    """One algorithm: its name in a sentence, what a task contributes to an outer step, and what that takes.

    order: `first`: the way that inner steps went; `second`: a gradient through them; `class means`: a gradient without.
    contribution: the function, `module:name`: a `meta.first_order.Goal`, or else a `meta.second_order.Gradient`.
    side_by_side: the same of all tasks of an outer step at once, for a GPU, a `meta.first_order.Goals`; none: there is
    no such form. moves: the part that inner steps move; None: any. learns_rates: of each weight, beside the weights.
    tail: whether images are kept for the last mini-batch: `never`, as `tail_shots` says, or `always`.
    Of a recipe meta-trained by it: keeps_half: half of each class's images are the tail; outer, step_size: the outer
    optimizer and its first step size; None: the recipe's own.
    """

    title: str
    order: Literal["first", "second", "class means"]
    contribution: str
    side_by_side: str = ""
    moves: Part | None = None
    learns_rates: bool = False
    tail: Literal["never", "asked", "always"] = "asked"
    keeps_half: bool = False
    outer: Outer | None = None
    step_size: float = 1.0

    @property
    def takes_steps(self) -> bool:
        """Whether there are inner steps."""
        return self.order != "class means"


def _through_steps(title: str, moves: Part | None = None, learns_rates: bool = False) -> AlgorithmRow:
    """MAML or one of its kin, with Adam outside, as their papers have it."""
    return AlgorithmRow(
        title=title,
        order="second",
        contribution="fewshot_sdk.meta.second_order:meta_gradient",
        moves=moves,
        learns_rates=learns_rates,
        keeps_half=True,
        outer="adam",
        step_size=1e-3,
    )


ALGORITHMS: dict[Algorithm, AlgorithmRow] = {
    "reptile": AlgorithmRow(
        title="Reptile",
        order="first",
        contribution="fewshot_sdk.meta.first_order:end_of_steps",
        side_by_side="fewshot_sdk.meta.first_order:ends_of_steps",
        tail="never",
    ),
    "fomaml": AlgorithmRow(
        title="first-order MAML", order="first", contribution="fewshot_sdk.meta.first_order:last_step"
    ),
    "maml": _through_steps("MAML"),
    "anil": _through_steps("ANIL", moves="head"),
    "boil": _through_steps("BOIL", moves="body"),
    "meta-sgd": _through_steps("Meta-SGD", learns_rates=True),
    "protonet": AlgorithmRow(
        title="ProtoNet",
        order="class means",
        contribution="fewshot_sdk.meta.second_order:prototype_gradient",
        tail="always",
        keeps_half=True,
        outer="adam",
        step_size=1e-3,
    ),
}


def known(name: str) -> Algorithm:
    """The algorithm of this name. Raises ConfigError, listing the known ones."""
    row_of(ALGORITHMS, name, "algorithm")
    return name


def first_order(algorithm: Algorithm) -> bool:
    """Whether a task's contribution is a way that the inner steps went, not a slope through them."""
    return ALGORITHMS[algorithm].order == "first"


def moved_by(algorithm: Algorithm) -> Part:
    """The part of the network that the inner steps move, unless another is asked for."""
    return ALGORITHMS[algorithm].moves or "all"


def check_fits(algorithm: Algorithm, optimizer: str, trainable: Part) -> None:
    """Raises ConfigError unless the algorithm works with such an inner loop."""
    row = ALGORITHMS[algorithm]
    if row.order == "second" and optimizer != "sgd":
        raise ConfigError(f"inner.optimizer: {algorithm} differentiates through sgd, found {optimizer}")
    if row.moves not in (None, trainable):
        raise ConfigError(f"inner.trainable: {algorithm} moves the {row.moves}, found {trainable}")
