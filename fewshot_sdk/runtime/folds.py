"""How a support set is divided for cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewshot_sdk.runtime.calibration import Ints

MOST_LEFT_OUT = 10  # classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Rows of the support set to adapt to, and rows held out."""

    fold: int
    train: Ints
    held_out: Ints


def folds_and_repeats(targets: Ints, n_strategies: int) -> tuple[int, int]:
    """The number of folds and of repeats, fewer for large support sets to limit the work.

    Up to 100 pictures: 5 folds, repeated twice if several strategies are compared; up to 500: 5 folds; up to 2,000: 3;
    above: 2. There are never more folds than pictures in the largest class, and 0 folds if fewer than two classes have
    a second picture.
    """
    counts = np.bincount(targets)
    if (counts > 1).sum() < 2:
        return 0, 0
    n = len(targets)
    folds = 5 if n <= 500 else 3 if n <= 2000 else 2
    return min(folds, int(counts.max())), 2 if n <= 100 and n_strategies > 1 else 1


def stratified_splits(targets: Ints, folds: int, repeats: int, seed: int) -> list[Split]:
    """Stratified folds: each picture is held out once a repeat, and every class is in every training part.

    The pictures of a class are dealt to the folds in turn, each class continuing where the last one ended; the only
    picture of a class is never held out.
    """
    splits = []
    for repeat in range(repeats):
        rng = np.random.default_rng((seed, repeat, 2))  # apart from the streams of tasks and mini-batches
        fold_of, next_fold = np.full(len(targets), -1), 0
        for label in np.unique(targets):
            rows = rng.permutation(np.flatnonzero(targets == label))
            if len(rows) > 1:
                fold_of[rows] = (next_fold + np.arange(len(rows))) % folds
                next_fold += len(rows)
        splits += [
            Split(fold=fold, train=np.flatnonzero(fold_of != fold), held_out=np.flatnonzero(fold_of == fold))
            for fold in range(folds)
        ]
    return splits


def left_out_of(n_way: int) -> Ints:
    """The classes that are left out in turn, as unknown ones: all, or ten evenly spread ones of more than ten."""
    return np.unique(np.linspace(0, n_way - 1, min(n_way, MOST_LEFT_OUT)).astype(np.int64))
