"""Which way to adapt: cross-validation on the support set, and of those within one standard error the surest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from fewshot_sdk.adaptation.calibration import Floats, Ints, fit_temperature, softmax
from fewshot_sdk.adaptation.methods import Adapter, Strategy, simplicity
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.records import Trial
from fewshot_sdk.engine.forward import Forward
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.engine.processors import side_by_side
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.intervals import standard_error

LEAST = 1e-12  # of a probability, so that its logarithm is a number
Watch = Callable[[Iterator[str], int], Iterable[str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Features of pictures, (n, n_features), and the seconds that each took."""

    features: Tensor
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """An initialization by its name, the support set as it sees it, and the ways it is tried in."""

    name: str
    init: Initialization
    support: SupportSet
    strategies: tuple[Strategy, ...]

    @cached_property
    def seen(self) -> Seen | None:
        """What the head sees of all pictures; None where that depends on which of them are learned from together."""
        adapter = Adapter(self.init, len(self.support.labels))
        if not adapter.judges_alone:
            return None
        with one_thread():
            started = time.perf_counter()
            found = adapter.features(torch.from_numpy(self.support.images))
        return Seen(features=found, seconds=(time.perf_counter() - started) / len(found))


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """What was said of pictures held out: logits (m, n_way), their targets, rows of the support set and folds, (m,)."""

    logits: Floats
    targets: Ints
    rows: Ints
    folds: Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """How one way did; seconds: what one adaptation took, on average."""

    candidate: Candidate
    strategy: Strategy
    trial: Trial
    seconds: float
    held_out: HeldOut


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Rows of the support set to learn from, and rows to be asked about."""

    fold: int
    learn: Ints
    ask: Ints


def plan(targets: Ints, n_ways: int) -> tuple[int, int]:
    """How many folds, and how often: the cap on the work for large support sets.

    Up to 100 pictures 5 folds, twice if more than one way is compared, up to 500 once, up to 2,000 3 folds, more: 2;
    never more folds than the largest class has pictures. 0 folds if no two classes have a second picture.
    """
    counts = np.bincount(targets)
    if (counts > 1).sum() < 2:
        return 0, 0
    n = len(targets)
    folds = 5 if n <= 500 else 3 if n <= 2000 else 2
    return min(folds, int(counts.max())), 2 if n <= 100 and n_ways > 1 else 1


def splits(targets: Ints, folds: int, repeats: int, seed: int) -> list[Split]:
    """Stratified folds: each picture is asked about once a repeat, and every class is always learned from.

    The pictures of a class are dealt out one by one, the next class going on where the last one ended; the
    only picture of a class is never held out.
    """
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng((seed, repeat, 2))  # apart from the streams of tasks and mini-batches
        dealt, next_fold = np.full(len(targets), -1), 0
        for label in np.unique(targets):
            rows = rng.permutation(np.flatnonzero(targets == label))
            if len(rows) > 1:
                dealt[rows] = (next_fold + np.arange(len(rows))) % folds
                next_fold += len(rows)
        found += [
            Split(fold=fold, learn=np.flatnonzero(dealt != fold), ask=np.flatnonzero(dealt == fold))
            for fold in range(folds)
        ]
    return found


def cross_validate(candidates: Sequence[Candidate], *, seed: int, watch: Watch) -> list[Outcome]:
    """How each way of each entrant does on pictures of the support set that it has not learned from.

    The standard error is that of the mean over the pictures, each counted with its share of right answers over
    the repeats. `watch` is handed the running work, a line about each fold, and their number.
    Source: Hastie, Tibshirani and Friedman 2009, section 7.10.
    """
    targets = candidates[0].support.targets
    parts = splits(targets, *plan(targets, sum(len(candidate.strategies) for candidate in candidates)), seed)
    logits: dict[tuple[int, Strategy], list[Floats]] = {
        (i, strategy): [] for i, e in enumerate(candidates) for strategy in e.strategies
    }
    seconds = dict.fromkeys(logits, 0.0)

    def run() -> Iterator[str]:
        for i, candidate in enumerate(candidates):
            asking = [partial(_answers, candidate, candidate.seen, split, seed) for split in parts]
            for answers in side_by_side(asking):
                for strategy, found, took in answers:
                    logits[i, strategy].append(found)
                    seconds[i, strategy] += took
                yield candidate.name

    for _ in watch(run(), len(parts) * len(candidates)):
        pass
    rows = np.concatenate([split.ask for split in parts])
    folds = np.concatenate([np.full(len(split.ask), split.fold) for split in parts])
    outcomes = []
    for (i, strategy), found in logits.items():
        held_out = HeldOut(logits=np.concatenate(found), targets=targets[rows], rows=rows, folds=folds)
        accuracy, error = accuracy_of(held_out)
        trial = Trial(
            method=strategy.method,
            init=candidates[i].name,
            steps=strategy.steps,
            accuracy=accuracy,
            standard_error=error,
            log_loss=log_loss_of(held_out),
        )
        took = seconds[i, strategy] / len(parts)
        outcomes.append(
            Outcome(candidate=candidates[i], strategy=strategy, trial=trial, seconds=took, held_out=held_out)
        )
    return outcomes


def _answers(
    candidate: Candidate, seen: Seen | None, split: Split, seed: int, n: int
) -> list[tuple[Strategy, Floats, float]]:
    adapter = Adapter(candidate.init, len(candidate.support.labels))  # one for each thread
    return list(ask(adapter, candidate.support, split, candidate.strategies, seed, seen, n))


def ask(
    adapter: Adapter,
    support: SupportSet,
    split: Split,
    strategies: Sequence[Strategy],
    seed: int,
    seen: Seen | None,
    n: int = 1,
) -> Iterator[tuple[Strategy, Floats, float]]:
    """Yields each way, its logits (len(split.ask), n_way), and the seconds its learning took.

    seen: the features of the whole support set, if one pass serves all splits. n: cores for gradient steps.
    """
    images, targets = torch.from_numpy(support.images), torch.from_numpy(support.targets)
    # Taking rows, too: that waits for a second thread, if the machine is busy, for a tenth of a second.
    with one_thread():
        learn, queries = images[torch.from_numpy(split.learn)], images[torch.from_numpy(split.ask)]
        known = None if seen is None else seen.features[torch.from_numpy(split.learn)]
        spent, started = {True: 0.0, False: 0.0 if seen is None else seen.seconds * len(learn)}, time.perf_counter()
        for strategy, params in adapter.learn(
            learn, targets[torch.from_numpy(split.learn)], strategies, seed, known, n
        ):
            stepping = strategy.method == "reptile"  # a longer run goes on from a shorter one, and counts it
            spent[stepping] += time.perf_counter() - started
            if seen is None or stepping:
                logits = Forward(adapter.network_of(strategy), params).apart(queries, learn)
            else:
                its = seen.features[torch.from_numpy(split.ask)]
                logits = linear(its, params["head.weight"], params["head.bias"])
            yield strategy, logits.double().numpy(), spent[stepping]
            started = time.perf_counter()


def accuracy_of(held_out: HeldOut) -> tuple[float, float]:
    """The share of right answers, and its standard error over the different pictures."""
    right = held_out.logits.argmax(1) == held_out.targets
    asked = np.bincount(held_out.rows)
    each = np.bincount(held_out.rows, right)[asked > 0] / asked[asked > 0]
    return float(each.mean()), standard_error(each)


def log_loss_of(held_out: HeldOut) -> float:
    """The mean cross-entropy at the temperature that fits, in nats: how far from certain of the right answers."""
    logits, targets = held_out.logits, held_out.targets
    probabilities = softmax(logits, fit_temperature(logits, targets, len(np.unique(held_out.rows))))
    return float(-np.log(np.maximum(probabilities[np.arange(len(targets)), targets], LEAST)).mean())


def surest_within_error(outcomes: Sequence[Outcome]) -> tuple[Outcome, str]:
    """The choice, and why in one sentence: of the ways within one standard error of the best accuracy the surest.

    The standard error over a few pictures spans most ways. Among these the log loss decides, which also knows how near
    a wrong answer was to the right one; if that is the same, the simpler way: prototypes before a probe before
    gradient steps, and fewer steps before more. The simplest of them (the 1 SE rule: Breiman et al. 1984, section
    3.4.3) costs accuracy on pictures foreign to the initialization; see CONTRIBUTING.md.
    """
    best = min(outcomes, key=lambda o: (-o.trial.accuracy, simplicity(o.strategy)))
    near = [o for o in outcomes if o.trial.accuracy >= best.trial.accuracy - best.trial.standard_error - 1e-12]
    chosen = min(near, key=lambda o: (o.trial.log_loss or 0.0, simplicity(o.strategy)))
    about = f"{described(chosen.trial)}: {chosen.trial.accuracy:.1%} in cross-validation"
    if len(outcomes) == 1:
        return chosen, f"{about}; nothing else was compared"
    if chosen is best:
        return chosen, f"chose {about}, the best, and nothing within its standard error is surer of the right answers"
    return chosen, (
        f"chose {about}, the surest of the right answers within one standard error ({best.trial.standard_error:.1%}) "
        f"of the best, {described(best.trial)} with {best.trial.accuracy:.1%}"
    )


def described(trial: Trial) -> str:
    """A way in words."""
    if trial.method == "reptile":
        return f"{trial.steps} reptile step{'' if trial.steps == 1 else 's'} from {trial.init}"
    return f"{'prototypes' if trial.method == 'prototypes' else 'a linear probe'} on {trial.init}"
