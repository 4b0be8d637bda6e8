"""`Experiment`: a figure of the paper as measurements that are made one by one, and what they amount to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fewshot_sdk.config.recipe import Config, Listed
from fewshot_sdk.paper.figures import Figure, Line

Numbers = Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is measured, by name: each alone, on one core, from its seed; so in any order, by any process, once.

    figure: of the numbers that all of them gave, by the same names. about: a sentence for the person who watches.
    """

    trials: Mapping[str, Callable[[], Numbers]]
    figure: Callable[[Mapping[str, Numbers]], Figure]
    about: str


def line_of(name: str, found: Mapping[str, Numbers], seeds: Sequence[int]) -> Line:
    """The line whose values at all points are what the trial `NAME, seed N` of each seed gave."""
    return Line(name=name, values=tuple(tuple(found[f"{name}, seed {seed}"]) for seed in seeds))


class Begun(Config):
    """What is being measured, and what its bits depend on besides: name -> version."""

    command: str
    versions: dict[str, str]


class Measured(Config):
    """What a trial gave, and how many seconds of processor time it took."""

    trial: str
    numbers: Listed[float]
    seconds: float
