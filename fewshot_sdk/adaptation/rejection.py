"""Temperature and reject threshold for an adapted classifier, and how well they separate known from unknown."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from fewshot_sdk.adaptation.calibration import (
    Floats,
    auroc,
    expected_calibration_error,
    fit_temperature,
    reject_threshold,
    softmax,
)
from fewshot_sdk.adaptation.cross_validation import (
    Features,
    HeldOut,
    Outcome,
    Split,
    Watch,
    accuracy_of,
    folds_and_repeats,
    predict_held_out,
    stratified_splits,
)
from fewshot_sdk.adaptation.methods import Adapter
from fewshot_sdk.config.records import Calibration
from fewshot_sdk.engine.processors import side_by_side
from fewshot_sdk.images.support import SupportSet

MOST_LEFT_OUT = 10  # classes


def calibrate(outcome: Outcome, *, reject_rate: float, seed: int, watch: Watch) -> tuple[float, float, Calibration]:
    """The temperature and the threshold fitted to the outcome's held-out predictions, and their record.

    reject_rate: the share of known pictures that may be lost, from 0 (never reject) to under 1. The record measures
    each fold with the temperature and threshold fitted to the others. Of repeated folds only the first repeat
    counts, so that a strategy gives the same result whether or not it is compared with others.
    """
    held = _first_repeat(outcome.held_out)
    temperature, threshold = _fit(held.logits, held.targets, held.rows, reject_rate)
    probabilities, rejected = np.empty_like(held.logits), np.zeros(len(held.targets), bool)
    for fold in np.unique(held.folds):
        inside, others = held.folds == fold, held.folds != fold
        fitted, limit = _fit(held.logits[others], held.targets[others], held.rows[others], reject_rate)
        probabilities[inside] = softmax(held.logits[inside], fitted)
        rejected[inside] = probabilities[inside].max(1) < limit
    known, unknown = _left_out(outcome, temperature, seed, watch)
    accuracy, error = accuracy_of(held)
    record = Calibration(
        reject_rate=reject_rate,
        pictures=len(np.unique(held.rows)),
        folds=len(np.unique(held.folds)),
        accuracy=accuracy,
        standard_error=error,
        ece_before=expected_calibration_error(softmax(held.logits), held.targets),
        ece=expected_calibration_error(probabilities, held.targets),
        known_lost=float(rejected.mean()),
        auroc=auroc(known, unknown) if len(known) else None,
        unknown_rejected=float((unknown < threshold).mean()) if len(unknown) else None,
    )
    return temperature, threshold, record


def _first_repeat(held: HeldOut) -> HeldOut:
    first = slice(len(np.unique(held.rows)))
    return HeldOut(
        logits=held.logits[first], targets=held.targets[first], rows=held.rows[first], folds=held.folds[first]
    )


def _fit(logits: Floats, targets: np.ndarray, rows: np.ndarray, reject_rate: float) -> tuple[float, float]:
    temperature = fit_temperature(logits, targets, len(np.unique(rows)))
    return temperature, reject_threshold(softmax(logits, temperature).max(1), reject_rate)


def _left_out(outcome: Outcome, temperature: float, seed: int, watch: Watch) -> tuple[Floats, Floats]:
    """Confidences in held-out pictures of known classes, and in pictures of classes that were left out.

    Each class is left out once, or ten evenly spread ones of more than ten; of the others one fold is held out.
    Both are empty with fewer than 3 classes.
    """
    support = outcome.candidate.support
    n_way = len(support.labels)
    known: list[Floats] = []
    unknown: list[Floats] = []
    if n_way < 3:
        return np.empty(0), np.empty(0)
    left_out = np.unique(np.linspace(0, n_way - 1, min(n_way, MOST_LEFT_OUT)).astype(int))

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
        ((_, logits, _),) = predict_held_out(adapter, others, split, [outcome.strategy], seed, features, cores)
        confidences = softmax(logits, temperature).max(1)
        return confidences[:n_known], confidences[n_known:]

    def run() -> Iterator[str]:
        features = outcome.candidate.features
        jobs = [partial(without, number, label, features) for number, label in enumerate(left_out)]
        for confidences in side_by_side(jobs):
            if confidences is not None:
                known.append(confidences[0])
                unknown.append(confidences[1])
                yield outcome.candidate.name

    for _ in watch(run(), len(left_out)):
        pass
    return np.concatenate([*known, np.empty(0)]), np.concatenate([*unknown, np.empty(0)])
