"""The results of ways to adapt in cross-validation on the support set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from fewshot_sdk.adaptation.methods import Adapter, Strategy
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.records import Trial
from fewshot_sdk.engine.features import feature_backbones
from fewshot_sdk.engine.forward import Forward
from fewshot_sdk.engine.heads import centre_of
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.engine.processors import side_by_side
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.intervals import standard_error
from fewshot_sdk.nets.score import Cosine
from fewshot_sdk.runtime.calibration import Floats, Ints, fit_temperature, softmax
from fewshot_sdk.runtime.folds import Split, folds_and_repeats, stratified_splits

LEAST = 1e-12  # a floor for probabilities, so that their logarithm is finite
Watch = Callable[[Iterator[str], int], Iterable[str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of pictures, by each summary (views, n, n_features), and the seconds that each picture took.

    outputs: what steps on the tail need, see `engine.tail`; empty where no strategy takes any.
    """

    values: tuple[Tensor, ...]
    seconds: float
    outputs: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A named initialization, the support set preprocessed for it, and the strategies to try with it."""

    name: str
    init: Initialization
    support: SupportSet
    strategies: tuple[Strategy, ...]

    @cached_property
    def features(self) -> Features | None:
        """The head's input for all pictures; None if it depends on which of them are in the training folds."""
        adapter = Adapter(self.init, len(self.support.labels))
        if not adapter.judges_alone:
            return None
        with one_thread():
            started = time.perf_counter()
            images, outputs = torch.from_numpy(self.support.images), tuple[Tensor, ...]()
            values = tuple(adapter.features(images))
            if self.init.recipe.adaptation.trainable == "tail" and any(s.method == "reptile" for s in self.strategies):
                outputs = tuple(adapter.before_tail(images))
        spent = time.perf_counter() - started
        return Features(values=values, seconds=spent / len(self.support.targets), outputs=outputs)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Predictions for held-out pictures: logits (m, n_way); scores, targets, rows of the support set and folds, (m,).

    scores: what `unknown` is decided by.
    """

    logits: Floats
    scores: Floats
    targets: Ints
    rows: Ints
    folds: Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """The result of one strategy; seconds: the mean time of an adaptation."""

    candidate: Candidate
    strategy: Strategy
    trial: Trial
    seconds: float
    held_out: HeldOut


def cross_validate(candidates: Sequence[Candidate], *, seed: int, watch: Watch) -> list[Outcome]:
    """The result of each strategy of each candidate on held-out pictures of the support set.

    The standard error is that of the mean over pictures, where a picture's value is its share of right predictions
    over the repeats. watch: called with an iterator that does the work and yields the candidate's name for each fold,
    and the number of folds.
    Source: Hastie, Tibshirani and Friedman 2009, section 7.10.
    """
    targets = candidates[0].support.targets
    n_strategies = sum(len(candidate.strategies) for candidate in candidates)
    splits = stratified_splits(targets, *folds_and_repeats(targets, n_strategies), seed)
    logits: dict[tuple[int, Strategy], list[tuple[Floats, Floats]]] = {
        (i, strategy): [] for i, candidate in enumerate(candidates) for strategy in candidate.strategies
    }
    seconds = dict.fromkeys(logits, 0.0)

    def run() -> Iterator[str]:
        for i, candidate in enumerate(candidates):
            jobs = [partial(_run_split, candidate, candidate.features, split, seed) for split in splits]
            for predictions in side_by_side(jobs):
                for strategy, of_split, scores, spent in predictions:
                    logits[i, strategy].append((of_split, scores))
                    seconds[i, strategy] += spent
                yield candidate.name

    for _ in watch(run(), len(splits) * len(candidates)):
        pass
    rows = np.concatenate([split.held_out for split in splits])
    folds = np.concatenate([np.full(len(split.held_out), split.fold) for split in splits])
    outcomes = []
    for (i, strategy), by_split in logits.items():
        both = [np.concatenate(part) for part in zip(*by_split, strict=True)]
        held_out = HeldOut(logits=both[0], scores=both[1], targets=targets[rows], rows=rows, folds=folds)
        accuracy, error = accuracy_of(held_out)
        trial = Trial(
            method=strategy.method,
            init=candidates[i].name,
            steps=strategy.steps,
            accuracy=accuracy,
            standard_error=error,
            log_loss=float(log_losses(held_out).mean()),
            features=_features_of(candidates[i], strategy),
            rate=strategy.rate,
            fit=candidates[i].init.recipe.preprocessing.fit if candidates[i].init.recipe.backbone.fits else "",
        )
        mean = seconds[i, strategy] / len(splits)
        outcomes.append(
            Outcome(candidate=candidates[i], strategy=strategy, trial=trial, seconds=mean, held_out=held_out)
        )
    return outcomes


def _run_split(
    candidate: Candidate, features: Features | None, split: Split, seed: int, cores: int
) -> list[tuple[Strategy, Floats, Floats, float]]:
    adapter = Adapter(candidate.init, len(candidate.support.labels))  # one for each thread
    return list(predict_held_out(adapter, candidate.support, split, candidate.strategies, seed, features, cores))


def predict_held_out(
    adapter: Adapter,
    support: SupportSet,
    split: Split,
    strategies: Sequence[Strategy],
    seed: int,
    features: Features | None,
    cores: int = 1,
) -> Iterator[tuple[Strategy, Floats, Floats, float]]:
    """Yields each strategy, its logits (len(split.held_out), n_way), its scores, and the seconds its adaptation took.

    features: of the whole support set, if they are the same for all splits. cores: for gradient steps.
    """
    images, targets = torch.from_numpy(support.images), torch.from_numpy(support.targets)
    train_rows, query_rows = torch.from_numpy(split.train), torch.from_numpy(split.held_out)
    with one_thread():  # indexing as well: on a busy machine a second thread would delay it by a tenth of a second
        needed = features is None or any(strategy.method == "reptile" for strategy in strategies)
        train, queries = (images[rows if needed else rows[:0]] for rows in (train_rows, query_rows))
        known = None if features is None else [values[:, train_rows] for values in features.values]
        outputs = [] if features is None else [output[:, train_rows] for output in features.outputs]
        extraction = 0.0 if features is None else features.seconds * len(train_rows)
        spent, started = {True: 0.0, False: extraction}, time.perf_counter()
        for strategy, params in adapter.learn(train, targets[train_rows], strategies, seed, known, cores, outputs):
            takes_steps = strategy.method == "reptile"  # a longer run continues a shorter one, and includes its time
            spent[takes_steps] += time.perf_counter() - started
            if features is None or takes_steps:
                logits = Forward(adapter.network_of(strategy), params).apart(queries, train)
                scores = logits.max(1).values.numpy()
            else:
                weight, bias, known_rows = (
                    params["head.weight"],
                    params["head.bias"],
                    features.values[strategy.features][0],
                )
                rows = known_rows[query_rows]
                logits = linear(rows, weight, bias)
                centre = centre_of(known_rows[train_rows], targets[train_rows], len(support.labels))
                cosine = Cosine.of(weight.numpy(), bias.numpy(), centre.numpy())
                scores = cosine.scores(logits.numpy(), rows.numpy())
            yield strategy, logits.double().numpy(), scores.astype(np.float64), spent[takes_steps]
            started = time.perf_counter()


def accuracy_of(held_out: HeldOut) -> tuple[float, float]:
    """The share of right predictions, and its standard error over the different pictures."""
    per_picture = by_picture(held_out.logits.argmax(1) == held_out.targets, held_out.rows)
    return float(per_picture.mean()), standard_error(per_picture)


def _features_of(candidate: Candidate, strategy: Strategy) -> str:
    """The name of the summary that a strategy uses, if the network has several; else nothing."""
    backbones = feature_backbones(candidate.init.recipe)
    if len(backbones) == 1 or strategy.method == "reptile":
        return ""
    return str(getattr(backbones[strategy.features], "summary", ""))


def log_losses(held_out: HeldOut) -> Floats:
    """The cross-entropy of each prediction at the fitted temperature, in nats, (m,)."""
    logits, targets = held_out.logits, held_out.targets
    probabilities = softmax(logits, fit_temperature(logits, targets, len(np.unique(held_out.rows))))
    losses: Floats = -np.log(np.maximum(probabilities[np.arange(len(targets)), targets], LEAST))
    return losses


def by_picture(values: Floats, rows: Ints) -> Floats:
    """The mean of each picture's values, over repeats."""
    counts = np.bincount(rows)
    means: Floats = np.bincount(rows, values)[counts > 0] / counts[counts > 0]
    return means
