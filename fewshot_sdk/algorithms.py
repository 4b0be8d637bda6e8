"""The table of meta-learning algorithms: what each needs from the two loops, and where its code is.

To add one, add a row here and a module in `meta/` with the function that the row names; it is imported on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fewshot_sdk.errors import ConfigError
from fewshot_sdk.tables import row_of

Algorithm: TypeAlias = str  # a name in ALGORITHMS
Part = Literal["all", "head", "body", "norm", "tail"]
Outer = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "adamax", "radam", "rmsprop", "adagrad"]
OUTER_NAMES: dict[Outer, str] = {
    "sgd": "plain SGD",
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
    """One algorithm: its title, what a task contributes to an outer step, and the settings it needs.

    order: what a task contributes: `first`: the displacement by the inner steps; `second`: a gradient through them;
    `class means`: a gradient without inner steps.
    contribution: the function, as `module:name`: a `meta.first_order.Target` for `first`, else a
    `meta.second_order.Gradient`. side_by_side: a `meta.first_order.Targets`, which takes all tasks of an outer step
    at once, for a GPU; empty if there is none.
    moves: the part of the network that inner steps must move; None: any part.
    learns_rates: whether a learning rate is learned for each weight.
    tail: whether images are kept for the last mini-batch: `never`, `optional` (if `tail_shots` is not 0) or `always`.
    For recipes that switch to this algorithm: keeps_half: the tail is half of each class's images; outer, step_size:
    the outer optimizer and its initial step size; outer None: both stay as they are.
    """

    title: str
    order: Literal["first", "second", "class means"]
    contribution: str
    side_by_side: str = ""
    moves: Part | None = None
    learns_rates: bool = False
    tail: Literal["never", "optional", "always"] = "optional"
    keeps_half: bool = False
    outer: Outer | None = None
    step_size: float = 1.0

    @property
    def takes_steps(self) -> bool:
        """Whether there are inner steps."""
        return self.order != "class means"


def _through_steps(title: str, moves: Part | None = None, learns_rates: bool = False) -> AlgorithmRow:
    """A member of the MAML family, with Adam as the outer optimizer, as in the papers."""
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
    """The algorithm of this name. Raises ConfigError, listing the known ones, for any other name."""
    row_of(ALGORITHMS, name, "algorithm")
    return name


def first_order(algorithm: Algorithm) -> bool:
    """Whether a task contributes the displacement by its inner steps, not a gradient."""
    return ALGORITHMS[algorithm].order == "first"


def moved_by(algorithm: Algorithm) -> Part:
    """The part of the network that the inner steps move by default."""
    return ALGORITHMS[algorithm].moves or "all"


def check_fits(algorithm: Algorithm, optimizer: str, trainable: Part) -> None:
    """Raises ConfigError unless the algorithm works with this inner optimizer and this trainable part."""
    row = ALGORITHMS[algorithm]
    if row.order == "second" and optimizer != "sgd":
        raise ConfigError(f"inner.optimizer: expected sgd, which {algorithm} differentiates through, found {optimizer}")
    if row.moves not in (None, trainable):
        raise ConfigError(f"inner.trainable: {algorithm} moves the {row.moves}, found {trainable}")
    if not row.takes_steps and trainable == "head":
        raise ConfigError(f"inner.trainable: {algorithm} learns no head; expected all, norm, tail or body, found head")
