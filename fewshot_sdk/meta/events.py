"""The events of a training run that ends in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from fewshot_sdk.config.records import Metric
from fewshot_sdk.errors import FewshotError
from fewshot_sdk.meta.pretraining import Epoch
from fewshot_sdk.meta.regression import NumberStep
from fewshot_sdk.meta.training import MetaStep


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A data set is about to be read."""

    data: str


@dataclass(frozen=True, kw_only=True)
class Began:
    """Training begins, with `done` of `total` epochs or outer steps already done.

    by: what runs the inner loop, such as "C, avx512, gcc 12.2.0"; empty: that goes without saying.
    """

    work: Literal["pre-training", "meta-training"]
    done: int
    total: int
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class Unsaved:
    """A file that could not be written, or a tracker that failed; training goes on without it."""

    path: Path
    reason: FewshotError


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A tracker has begun; `where` it writes, or how to look at it."""

    tracker: str
    where: str


@dataclass(frozen=True, kw_only=True)
class Best:
    """The initialization at this point of the curve is the best so far, and is now in the folder `path`."""

    path: Path
    metric: Metric


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Training stopped early, after `done` of `meta_steps` outer steps; `checkpoint` holds its state."""

    checkpoint: Path
    done: int
    meta_steps: int


Event: TypeAlias = Reading | Began | Epoch | MetaStep | NumberStep | Unsaved | Tracked | Best | Kept
Listener: TypeAlias = Callable[[Event], object]


def ignore(_: Event) -> None:
    """A listener that does nothing."""
