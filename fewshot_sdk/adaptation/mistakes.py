"""The mistakes of cross-validation: what in a picture spoke for the wrong class, and the pictures most like it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_sdk.adaptation.cross_validation import Outcome
from fewshot_sdk.adaptation.methods import Adapter
from fewshot_sdk.engine.features import frozen, frozen_features
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.engine.processors import cores
from fewshot_sdk.nets.heat_maps import heat_maps
from fewshot_sdk.runtime.calibration import Floats, Ints, softmax

SHOWN, ADAPTATIONS = 8, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Mistake:
    """A held-out picture, as a row of the support set, that was taken for the class `predicted`.

    probability: of that class. heat_map: (h, w), what spoke for it, by the classifier that had not seen the picture;
    None for a network without maps. like_predicted, like_truth: the pictures of the predicted and of the true class,
    among those it had learned from, whose features are nearest; as rows.
    """

    row: int
    truth: int
    predicted: int
    probability: float
    heat_map: NDArray[np.float32] | None
    like_predicted: int
    like_truth: int


def find_mistakes(outcome: Outcome, *, temperature: float = 1.0, seed: int = 0) -> list[Mistake]:
    """Up to 8 mistakes of a strategy, one for each picture, the most confident first.

    They are of the three splits with the most mistakes, for which the strategy adapts again; temperature, seed: those
    of the cross-validation.
    """
    answers = outcome.held_out
    probabilities = softmax(answers.logits, temperature)
    wrong = probabilities.argmax(1) != answers.targets
    splits = _splits(answers.folds)
    often = sorted(splits, key=lambda split: -int(wrong[split].sum()))[:ADAPTATIONS]
    confidence = probabilities.max(1)
    chosen: dict[int, tuple[int, Ints]] = {}
    for split in often:
        for i in split[wrong[split]]:
            row = int(answers.rows[i])
            if row not in chosen or confidence[i] > confidence[chosen[row][0]]:
                chosen[row] = int(i), split
    first = sorted(chosen.values(), key=lambda one: -confidence[one[0]])[:SHOWN]
    found: dict[int, Mistake] = {}
    for split in often:
        answered = np.array([i for i, of in first if of is split], np.int64)
        if len(answered):
            found |= _explained(outcome, split, answered, probabilities, seed)
    return [found[i] for i, _ in first]


def _splits(folds: Ints) -> list[Ints]:
    """The answers of each split, which lie side by side: indices."""
    return np.split(np.arange(len(folds)), 1 + np.flatnonzero(np.diff(folds)))


def _explained(
    outcome: Outcome, split: Ints, answered: Ints, probabilities: Floats, seed: int
) -> Iterator[tuple[int, Mistake]]:
    """The mistakes `answered` of one split, by index."""
    candidate, answers = outcome.candidate, outcome.held_out
    support, rows = candidate.support, answers.rows[answered]
    train = np.setdiff1d(np.arange(len(support.targets)), answers.rows[split])
    images, predicted = torch.from_numpy(support.images), probabilities.argmax(1)[answered]
    with one_thread(), torch.no_grad():
        adapter = Adapter(candidate.init, len(support.labels))
        cached = None if candidate.features is None else candidate.features.values
        known = None if cached is None else [values[:, torch.from_numpy(train)] for values in cached]
        of_train = images[torch.from_numpy(train)], torch.from_numpy(support.targets[train])
        ((_, params),) = adapter.learn(*of_train, [outcome.strategy], seed, known, cores())
        network = adapter.network_of(outcome.strategy)
        network.load_state_dict(frozen(network, params, of_train[0]))
        network.eval()
        maps: list[NDArray[np.float32] | None] = [None] * len(rows)
        if network.backbone.has_positions:
            found, _ = heat_maps(network, images[torch.from_numpy(rows)], torch.from_numpy(predicted))
            maps = list(found.numpy())
        if cached is None or outcome.strategy.method == "reptile":
            features = frozen_features(network, images)
        else:
            features = cached[outcome.strategy.features][0]
    for i, row, label, heat in zip(answered, rows, predicted, maps, strict=True):
        near = [_nearest(features, int(row), train[support.targets[train] == of]) for of in (label, answers.targets[i])]
        yield int(i), Mistake(
            row=int(row), truth=int(answers.targets[i]), predicted=int(label), heat_map=heat,
            probability=float(probabilities[i, label]), like_predicted=near[0], like_truth=near[1],
        )  # fmt: skip


def _nearest(features: Tensor, row: int, among: Ints) -> int:
    return int(among[int((features[torch.from_numpy(among)] - features[row]).norm(dim=1).argmin())])
