"""Temperature and limit for `unknown`, found by cross-validation on the features of a support set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.nets.score import Cosine
from fewshot_sdk.runtime.calibration import REJECT_RATE, Floats, Ints, between, fit_temperature, reject_limit
from fewshot_sdk.runtime.folds import folds_and_repeats, left_out_of, stratified_splits

Rows = NDArray[np.float32]  # features (n, n_features)


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A linear head, weight (n_way, n_features) and bias (n_way,), and the mean of its classes' mean features."""

    weight: Rows
    bias: Rows
    centre: Rows

    def logits(self, features: Rows) -> Floats:
        """The logits of features, (n, n_way), in float64: a temperature depends on small differences of them."""
        found: Floats = features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        return found

    def cosine(self, temperature: float = 1.0) -> Cosine:
        """The score for logits divided by a temperature."""
        return Cosine.of(self.weight, self.bias, self.centre, temperature)

    def scores(self, features: Rows) -> Floats:
        """What `unknown` is decided by, (n,)."""
        return self.cosine().scores(self.logits(features), features).astype(np.float64)


Learn = Callable[[Rows, Ints], Head]  # from features and their targets, each class at least once


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The temperature, and the least score of a known picture; None: nothing is called unknown."""

    temperature: float = 1.0
    least_score: float | None = None


def limits(
    features: Rows, targets: Ints, learn: Learn, *, seed: int, rate: float = REJECT_RATE, leave_out: bool = True
) -> Limits:
    """Fitted as `adapt` does, to pictures that are held out and, from three classes on, to classes that are left out.

    rate: the share of known pictures that may be lost. leave_out: False for a head with a fixed number of classes.
    With fewer than two classes that have a second picture the temperature is 1 and there is no limit.
    """
    folds, _ = folds_and_repeats(targets, 1)
    if not folds:
        return Limits()
    logits, scores, rows = [], [], []
    for split in stratified_splits(targets, folds, 1, seed):
        head = learn(features[split.train], targets[split.train])
        logits.append(head.logits(features[split.held_out]))
        scores.append(head.scores(features[split.held_out]))
        rows.append(split.held_out)
    held = np.concatenate(rows)
    temperature = fit_temperature(np.concatenate(logits), targets[held], len(held))
    least = reject_limit(np.concatenate(scores), rate)
    if least is not None and leave_out:
        least = between(least, _strangers(features, targets, learn, seed))
    return Limits(temperature=temperature, least_score=least)


def _strangers(features: Rows, targets: Ints, learn: Learn, seed: int) -> Floats:
    """The scores of the pictures of each class by a head that was made without that class, and without one fold."""
    n_way = int(targets.max()) + 1
    found: list[NDArray[Any]] = [np.empty(0)]
    for number, label in enumerate(left_out_of(n_way) if n_way > 2 else ()):
        rest, others = np.flatnonzero(targets != label), targets - (targets > label)
        folds, _ = folds_and_repeats(others[rest], 1)
        if folds:
            train = rest[stratified_splits(others[rest], folds, 1, seed)[number % folds].train]
            found.append(learn(features[train], others[train]).scores(features[targets == label]))
    return np.concatenate(found)
