"""Temperature and limit for `unknown` of an adapted classifier, and how good its answers are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from fewshot_sdk.adaptation.cross_validation import (
    Features,
    HeldOut,
    Outcome,
    Watch,
    predict_held_out,
)
from fewshot_sdk.adaptation.learning_curve import learning_curve
from fewshot_sdk.adaptation.methods import Adapter
from fewshot_sdk.config.records import Calibration, Confusion
from fewshot_sdk.engine.processors import side_by_side
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.intervals import most
from fewshot_sdk.runtime.calibration import (
    Floats,
    auroc,
    between,
    expected_calibration_error,
    fit_temperature,
    reject_limit,
    softmax,
)
from fewshot_sdk.runtime.folds import Split, folds_and_repeats, left_out_of, stratified_splits


def calibrate(
    outcome: Outcome, *, reject_rate: float, seed: int, watch: Watch
) -> tuple[float, float | None, Calibration]:
    """The temperature and the least score fitted to the outcome's held-out predictions, and their record.

    reject_rate: the share of known pictures that may be lost, from 0 (never reject) to under 1; see `reject_limit` and
    `between`.
    The record measures each fold with the temperature and limit fitted to the others. Of repeated folds
    only the first repeat counts for these, so that a strategy gives the same classifier whether or not it is compared
    with others; the accuracy is that of the comparison.
    """
    held = _part(outcome.held_out, np.arange(len(np.unique(outcome.held_out.rows))))
    temperature, least = _fit(held, reject_rate)
    probabilities, rejected = np.empty_like(held.logits), np.zeros(len(held.targets), bool)
    for fold in np.unique(held.folds):
        inside, others = held.folds == fold, held.folds != fold
        fitted, limit = _fit(_part(held, others), reject_rate)
        probabilities[inside] = softmax(held.logits[inside], fitted)
        rejected[inside] = False if limit is None else held.scores[inside] < limit
    known, unknown = _left_out(outcome, seed, watch)
    least = between(least, unknown)
    pictures = len(np.unique(held.rows))
    record = Calibration(
        reject_rate=reject_rate,
        pictures=pictures,
        folds=len(np.unique(held.folds)),
        accuracy=outcome.trial.accuracy,
        standard_error=outcome.trial.standard_error,
        ece_before=expected_calibration_error(softmax(held.logits), held.targets),
        ece=expected_calibration_error(probabilities, held.targets),
        known_lost=float(rejected.mean()),
        auroc=auroc(known, unknown) if len(known) else None,
        unknown_rejected=float((unknown < (-np.inf if least is None else least)).mean()) if len(unknown) else None,
        known_lost_most=None if least is None else most(int(rejected.sum()), pictures),
        guessing=float(np.bincount(held.targets).max() / len(held.targets)),
        confused=most_confused(outcome.held_out, outcome.candidate.support.labels),
        curve=learning_curve(outcome, seed),
    )
    return temperature, least, record


def most_confused(held: HeldOut, labels: Sequence[str]) -> Confusion | None:
    """The two classes most often taken for one another; None if that happens to no more than one picture.

    A picture counts if it is taken for the other class in at least half of the repeats.
    """
    times, wrong = np.bincount(held.rows), held.logits.argmax(1)
    pairs: dict[tuple[int, int], int] = {}
    for row in np.unique(held.rows[wrong != held.targets]):
        answers, truth = wrong[held.rows == row], int(held.targets[held.rows == row][0])
        for other in np.unique(answers[answers != truth]):
            if 2 * (answers == other).sum() >= times[row]:
                pair = (min(truth, int(other)), max(truth, int(other)))
                pairs[pair] = pairs.get(pair, 0) + 1
    pair = max(sorted(pairs), key=lambda two: pairs[two], default=(0, 0))
    if pairs.get(pair, 0) < 2:
        return None
    of = len(np.unique(held.rows[np.isin(held.targets, pair)]))
    return Confusion(first=labels[pair[0]], second=labels[pair[1]], pictures=pairs[pair], of=of)


def _part(held: HeldOut, which: np.ndarray) -> HeldOut:
    return HeldOut(**{name: values[which] for name, values in vars(held).items()})


def _fit(held: HeldOut, reject_rate: float) -> tuple[float, float | None]:
    temperature = fit_temperature(held.logits, held.targets, len(np.unique(held.rows)))
    return temperature, reject_limit(held.scores, reject_rate)


def _left_out(outcome: Outcome, seed: int, watch: Watch) -> tuple[Floats, Floats]:
    """Scores of held-out pictures of known classes, and of pictures of classes that were left out.

    Each class is left out once, or ten evenly spread ones of more than ten; of the others one fold is held out.
    Both are empty with fewer than 3 classes.
    """
    support = outcome.candidate.support
    n_way = len(support.labels)
    known: list[Floats] = []
    unknown: list[Floats] = []
    if n_way < 3:
        return np.empty(0), np.empty(0)
    left_out = left_out_of(n_way)

    def without(number: int, label: int, features: Features | None, cores: int) -> tuple[Floats, Floats] | None:
        rest = np.flatnonzero(support.targets != label)
        strangers = np.flatnonzero(support.targets == label)
        targets = support.targets - (support.targets > label)
        folds, _ = folds_and_repeats(targets[rest], 1)
        if not folds:
            return None
        inner = stratified_splits(targets[rest], folds, 1, seed)[number % folds]
        queries, n_known = np.concatenate([rest[inner.held_out], strangers]), len(inner.held_out)
        split = Split(fold=inner.fold, train=rest[inner.train], held_out=queries)
        others = SupportSet(labels=support.labels[:-1], images=support.images, targets=targets)
        adapter = Adapter(outcome.candidate.init, n_way - 1)
        ((_, _, scores, _),) = predict_held_out(adapter, others, split, [outcome.strategy], seed, features, cores)
        return scores[:n_known], scores[n_known:]

    def run() -> Iterator[str]:
        features = outcome.candidate.features
        jobs = [partial(without, number, label, features) for number, label in enumerate(left_out)]
        for scores in side_by_side(jobs):
            if scores is not None:
                known.append(scores[0])
                unknown.append(scores[1])
                yield outcome.candidate.name

    for _ in watch(run(), len(left_out)):
        pass
    return np.concatenate([*known, np.empty(0)]), np.concatenate([*unknown, np.empty(0)])
