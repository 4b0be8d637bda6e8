"""The three methods of adapting an initialization; each ends in the network with a linear head.

prototypes  no gradient step: each class is the mean of its pictures' features
probe       logistic regression on the features
reptile     gradient steps on the whole network, as in meta-training
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import InnerLoop
from fewshot_sdk.config.records import Method
from fewshot_sdk.data.tasks import mini_batches
from fewshot_sdk.engine.features import feature_backbones, features_of_views
from fewshot_sdk.engine.heads import begin, fits, new_head, open_any_head
from fewshot_sdk.engine.inner_loop import fine_tune
from fewshot_sdk.engine.tail import before_tail, tune_tail
from fewshot_sdk.errors import TrainingDiverged
from fewshot_sdk.nets.network import Network, build_network
from fewshot_sdk.nets.params import Params


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A method, its number of gradient steps, 0 for all but reptile, and which of the features the others use.

    features: a position in the `feature_backbones` of the recipe. rate: the learning rate of the steps; None: the
    recipe's.
    """

    method: Method
    steps: int = 0
    features: int = 0
    rate: float | None = None


def simplicity(strategy: Strategy) -> tuple[int, int, int]:
    """A sort key, simplest first: prototypes, probe, then reptile by its number of steps; default features first."""
    return ("prototypes", "probe", "reptile").index(strategy.method), strategy.steps, strategy.features


class Adapter:
    """An initialization prepared for tasks of `n_way` classes."""

    def __init__(self, init: Initialization, n_way: int) -> None:
        recipe = init.recipe
        self.network: Network = build_network(recipe.backbone, recipe.preprocessing, n_way)
        self._feature_networks = [
            self.network if backbone == recipe.backbone else build_network(backbone, recipe.preprocessing, n_way)
            for backbone in feature_backbones(recipe)
        ]
        self._start = open_any_head(init.state, recipe.head, self.network)
        self._head, self._inner = recipe.head, recipe.adaptation
        if self._inner.trainable == "body" and not fits(init.state, recipe.head, n_way):
            self._inner = self._inner.replace(trainable="all")  # a zero head has to learn as well

    @property
    def judges_alone(self) -> bool:
        """Whether a picture's features are independent of the rest of its batch."""
        return self.network.backbone.judges_alone

    def features(self, images: Tensor) -> list[Tensor]:
        """The features of a support set that prototypes and probes can use, each (views, n, n_features)."""
        return features_of_views(self._feature_networks, self._start.params, images)

    def before_tail(self, images: Tensor) -> list[Tensor]:
        """What steps on the tail need of a support set: see `engine.tail`."""
        return before_tail(self.network, self._start.params, images)

    def network_of(self, strategy: Strategy) -> Network:
        """The network that a strategy's weights belong to."""
        return self.network if strategy.method == "reptile" else self._feature_networks[strategy.features]

    def learn(
        self, images: Tensor, targets: Tensor, strategies: Sequence[Strategy], seed: int,
        known_features: Sequence[Tensor] | None = None, cores: int = 1, known_outputs: Sequence[Tensor] = (),
    ) -> Iterator[tuple[Strategy, Params]]:  # fmt: skip
        """Yields each strategy and its weights, simplest first; a longer reptile run continues a shorter one.

        images: uint8 (n, height, width, channels); targets: int64 (n,), each class at least once.
        seed: for the order of mini-batches. known_features: the images' `features`, if they are already computed;
        known_outputs: their `before_tail`.
        cores: for the gradient steps, see `fine_tune`.
        Raises TrainingDiverged if a loss is not finite.
        """
        strategies, known = sorted(strategies, key=simplicity), known_features
        if known is None and any(strategy.method != "reptile" for strategy in strategies):
            known = self.features(images)
        if self._inner.trainable == "tail" and any(strategy.method == "reptile" for strategy in strategies):
            yield from self._tails(images, targets, strategies, seed, known, known_outputs)
            return
        batches = mini_batches(
            len(targets), self._inner.batch_size, max(strategy.steps for strategy in strategies), (seed,)
        )
        state, done = self._start, 0
        if any(strategy.method == "reptile" for strategy in strategies):
            state = begin(self.network, self._start, self._head, images, targets)
        for strategy in strategies:
            if known is not None and strategy.method != "reptile":
                seen = known[strategy.features]
                examples, labels = seen.flatten(0, 1), targets.repeat(len(seen))
                head = new_head(strategy.method, self.network_of(strategy), examples, labels)
                yield strategy, {**self._start.params, **head}
                continue
            rows = batches[done : strategy.steps]
            state, losses = fine_tune(self.network, state, images, targets, rows, self._inner, cores=cores)
            if not torch.isfinite(losses).all():
                raise TrainingDiverged("the loss is not finite after adapting to this support set; try fewer --steps")
            done = strategy.steps
            yield strategy, state.params

    def _tails(
        self, images: Tensor, targets: Tensor, strategies: Sequence[Strategy], seed: int,
        known: Sequence[Tensor] | None, outputs: Sequence[Tensor],
    ) -> Iterator[tuple[Strategy, Params]]:  # fmt: skip
        """As `learn`, but steps move the tail, from the head of a probe, and see each picture in several views."""
        found = self.features(images) if known is None else known
        outputs = outputs or self.before_tail(images)
        if self.network in self._feature_networks:
            seen = found[self._feature_networks.index(self.network)]
        else:  # its summary is one that prototypes and probes do not use
            (seen,) = features_of_views([self.network], self._start.params, images)
        head = new_head("probe", self.network, seen.flatten(0, 1), targets.repeat(len(seen)))
        start = replace(self._start, params={**self._start.params, **head})
        for strategy in strategies:
            if strategy.method != "reptile":
                yield from self.learn(images, targets, [strategy], seed, found)
                continue
            inner = self.inner(strategy)
            batches = mini_batches(len(targets), inner.batch_size, strategy.steps, (seed,))
            state, losses = tune_tail(self.network, start, outputs, targets, batches, inner, seed)
            if not torch.isfinite(losses).all():
                raise TrainingDiverged("the loss is not finite after adapting to this support set; try fewer --steps")
            yield strategy, state.params

    def inner(self, strategy: Strategy) -> InnerLoop:
        """The recipe's adaptation loop with the strategy's number of steps, and its rate if it has one."""
        rate = self._inner.learning_rate if strategy.rate is None else strategy.rate
        return self._inner.replace(steps=strategy.steps, learning_rate=rate)
