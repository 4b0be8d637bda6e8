"""How accuracy grows with the number of pictures of each class, from the features that cross-validation has."""

from __future__ import annotations

from functools import partial

import numpy as np

from fewshot_sdk.adaptation.cross_validation import (
    Features,
    Outcome,
    predict_held_out,
)
from fewshot_sdk.adaptation.methods import Adapter
from fewshot_sdk.config.records import CurvePoint
from fewshot_sdk.engine.processors import side_by_side
from fewshot_sdk.intervals import interval_of_share
from fewshot_sdk.runtime.calibration import Ints
from fewshot_sdk.runtime.folds import Split, folds_and_repeats, stratified_splits

SHOTS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)
FOLDS = 3  # of the five, to take less than a fifth of the time of adapting


def learning_curve(outcome: Outcome, seed: int) -> tuple[CurvePoint, ...]:
    """Accuracy after adapting to fewer pictures of each class, then to all outside the fold; empty if it is expensive.

    Each training fold is thinned to `shots` pictures of each class, or all of a class that has fewer, and a new head is
    made from their cached features. Each point's accuracy is the outcome's minus the mean loss against all pictures
    of the fold, on the same held-out pictures. It is expensive, and left out, where the network has to run again:
    for gradient steps, and for features that depend on the batch.
    """
    candidate, strategy = outcome.candidate, outcome.strategy
    features, support = candidate.features, candidate.support
    if features is None or strategy.method == "reptile":
        return ()
    targets, n_way = support.targets, len(support.labels)
    folds, _ = folds_and_repeats(targets, 1)
    splits = stratified_splits(targets, folds, 1, seed)[:FOLDS]
    full = max(1, round(len(splits[0].train) / n_way))
    shots = [k for k in SHOTS if k <= 0.8 * full]

    adapter = Adapter(candidate.init, n_way)  # for all threads: new heads leave its networks alone

    def right(split: Split, of: Features, cores: int) -> Ints:
        ((_, logits, _, _),) = predict_held_out(adapter, support, split, [strategy], seed, of, cores)
        found: Ints = (logits.argmax(1) == targets[split.held_out]).astype(np.int64)
        return found

    cheap = 4 if strategy.method == "prototypes" else 1
    repeats = {k: cheap * max(1, full // (2 * k)) for k in shots}  # about the same work for each point
    thinned = [
        _thinned(split, targets, k, np.random.default_rng((seed, 3, repeat, split.fold)))
        for k in shots
        for repeat in range(repeats[k])
        for split in splits
    ]
    answers = iter(side_by_side([partial(right, split, features) for split in thinned]))
    shares = [np.concatenate([next(answers) for _ in range(repeats[k] * len(splits))]).mean() for k in shots]
    held, n = outcome.held_out, sum(len(split.held_out) for split in splits)
    whole = (held.logits[:n].argmax(1) == held.targets[:n]).mean()  # of the same folds, which come first
    best, pictures = outcome.trial.accuracy, len(np.unique(held.rows))
    points = [_point(k, best - (whole - share), pictures) for k, share in zip(shots, shares, strict=True)]
    return (*points, _point(full, best, pictures))


def _thinned(split: Split, targets: Ints, shots: int, rng: np.random.Generator) -> Split:
    """The split with at most `shots` pictures of each class to learn from; for an equal `rng` more include fewer."""
    rows = [rng.permutation(split.train[targets[split.train] == label])[:shots] for label in np.unique(targets)]
    return Split(fold=split.fold, train=np.sort(np.concatenate(rows)), held_out=split.held_out)


def _point(shots: int, accuracy: float, pictures: int) -> CurvePoint:
    share = min(1.0, max(0.0, float(accuracy)))
    low, high = interval_of_share(share, pictures)
    return CurvePoint(shots=shots, accuracy=share, low=low, high=high)
