"""Temperature and reject threshold of a way to adapt, and how well they tell the known from the unknown."""

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
from fewshot_sdk.adaptation.cross_validation import HeldOut, Outcome, Seen, Split, Watch, accuracy_of, ask, plan, splits
from fewshot_sdk.adaptation.methods import Adapter
from fewshot_sdk.config.records import Calibration
from fewshot_sdk.engine.processors import side_by_side
from fewshot_sdk.images.support import SupportSet

MOST_LEFT_OUT = 10


def calibrate(outcome: Outcome, *, reject_rate: float, seed: int, watch: Watch) -> tuple[float, float, Calibration]:
    """The temperature and the threshold that fit the outcome's held-out predictions, and their record.

    reject_rate: the share of known pictures that may be lost, from 0 (never reject) to under 1. The record's errors
    and shares are of each fold by the temperature and threshold that fit the others. Of repeated folds only the first
    count, so that a way compared with others ends as it would alone.
    """
    held = _first_repeat(outcome.held_out)
    temperature, threshold = _fit(held.logits, held.targets, held.rows, reject_rate)
    probabilities, rejected = np.empty_like(held.logits), np.zeros(len(held.targets), bool)
    for fold in np.unique(held.folds):
        asked, others = held.folds == fold, held.folds != fold
        its, limit = _fit(held.logits[others], held.targets[others], held.rows[others], reject_rate)
        probabilities[asked] = softmax(held.logits[asked], its)
        rejected[asked] = probabilities[asked].max(1) < limit
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
    """Confidences about held-out pictures of known classes, and about pictures of classes that were left out.

    Each class is left out once, of more than ten only ten, evenly spread; the others keep back one fold.
    Nothing under 3 classes.
    """
    support = outcome.candidate.support
    n_way = len(support.labels)
    known: list[Floats] = []
    unknown: list[Floats] = []
    if n_way < 3:
        return np.empty(0), np.empty(0)
    left_out = np.unique(np.linspace(0, n_way - 1, min(n_way, MOST_LEFT_OUT)).astype(int))

    def one(number: int, label: int, seen: Seen | None, n: int) -> tuple[Floats, Floats] | None:
        rest = np.flatnonzero(support.targets != label)
        strangers = np.flatnonzero(support.targets == label)
        targets = support.targets - (support.targets > label)
        folds, _ = plan(targets[rest], 1)
        if not folds:
            return None
        split = splits(targets[rest], folds, 1, seed)[number % folds]
        learn, queries = rest[split.learn], np.concatenate([rest[split.ask], strangers])
        without = SupportSet(labels=support.labels[:-1], images=support.images, targets=targets)
        whole = Split(fold=split.fold, learn=learn, ask=queries)
        adapter = Adapter(outcome.candidate.init, n_way - 1)
        ((_, logits, _),) = ask(adapter, without, whole, [outcome.strategy], seed, seen, n)
        confidences = softmax(logits, temperature).max(1)
        return confidences[: len(split.ask)], confidences[len(split.ask) :]

    def run() -> Iterator[str]:
        seen = outcome.candidate.seen
        for sure in side_by_side([partial(one, number, label, seen) for number, label in enumerate(left_out)]):
            if sure is not None:
                known.append(sure[0])
                unknown.append(sure[1])
                yield outcome.candidate.name

    for _ in watch(run(), len(left_out)):
        pass
    return np.concatenate([*known, np.empty(0)]), np.concatenate([*unknown, np.empty(0)])
