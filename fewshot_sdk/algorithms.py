"""The meta-learning algorithms by name, and what each asks of the loop inside a task."""

from __future__ import annotations

from typing import Literal, get_args

from fewshot_sdk.errors import ConfigError

Algorithm = Literal["reptile", "fomaml", "maml", "anil", "boil", "meta-sgd", "protonet"]
Part = Literal["all", "head", "body", "norm"]
Outer = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "adamax", "radam", "rmsprop", "adagrad"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
ALGORITHM_NAMES: dict[Algorithm, str] = {
    "reptile": "Reptile",
    "fomaml": "first-order MAML",
    "maml": "MAML",
    "anil": "ANIL",
    "boil": "BOIL",
    "meta-sgd": "Meta-SGD",
    "protonet": "ProtoNet",
}
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
MOVED: dict[Algorithm, Part] = {"anil": "head", "boil": "body"}  # by the steps inside a task


def known(name: str) -> Algorithm:
    """The algorithm of this name. Raises ConfigError, listing the known ones."""
    for algorithm in ALGORITHMS:
        if name == algorithm:
            return algorithm
    raise ConfigError(f"no algorithm {name!r}; the algorithms are {', '.join(ALGORITHMS)}")


def first_order(algorithm: Algorithm) -> bool:
    """Whether a task's contribution is a way that the inner steps went, not a slope through them."""
    return algorithm in ("reptile", "fomaml")


def check_fits(algorithm: Algorithm, optimizer: str, trainable: Part) -> None:
    """Raises ConfigError unless the algorithm works with such an inner loop."""
    if not first_order(algorithm) and algorithm != "protonet" and optimizer != "sgd":
        raise ConfigError(f"inner.optimizer: {algorithm} differentiates through sgd, found {optimizer}")
    if trainable != (moved := MOVED.get(algorithm, trainable)):
        raise ConfigError(f"inner.trainable: {algorithm} moves the {moved}, found {trainable}")
