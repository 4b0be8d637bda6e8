"""The three ways from an initialization to a classifier; each ends as the network with a linear head.

prototypes  no gradient step: each class is the mean of its pictures' features
probe       a linear classifier on the features
reptile     gradient steps on the whole network, as in meta-training
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import InnerLoop
from fewshot_sdk.config.records import Method
from fewshot_sdk.data.tasks import mini_batches
from fewshot_sdk.engine.features import features, seen_still
from fewshot_sdk.engine.heads import begin, fits, new_head, open_any_head
from fewshot_sdk.engine.inner_loop import fine_tune
from fewshot_sdk.errors import TrainingDiverged
from fewshot_sdk.nets.network import Network, build_network
from fewshot_sdk.nets.params import Params


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A method, and its number of gradient steps on the whole network: 0 for all but reptile."""

    method: Method
    steps: int = 0


def simplicity(strategy: Strategy) -> tuple[int, int]:
    """What sorts ways from simple to involved: prototypes, probe, reptile by its number of steps."""
    return ("prototypes", "probe", "reptile").index(strategy.method), strategy.steps


class Adapter:
    """An initialization laid out for tasks of `n_way` classes."""

    def __init__(self, init: Initialization, n_way: int) -> None:
        recipe = init.recipe
        self.network: Network = build_network(recipe.backbone, recipe.preprocessing, n_way)
        self._still, seen = self.network, seen_still(recipe)
        if seen != recipe.backbone:
            self._still = build_network(seen, recipe.preprocessing, n_way)
        self._start = open_any_head(init.state, recipe.head, self.network)
        self._head, self._inner = recipe.head, recipe.adaptation
        if self._inner.trainable == "body" and not fits(init.state, recipe.head, n_way):
            self._inner = self._inner.replace(trainable="all")  # a head of zeros has to learn, too

    @property
    def judges_alone(self) -> bool:
        """Whether the features of a picture depend on nothing else in its batch."""
        return self.network.backbone.judges_alone

    def features(self, images: Tensor) -> Tensor:
        """What class means and probes see of a support set: (n, n_features)."""
        return features(self._still, self._start.params, images)

    def network_of(self, strategy: Strategy) -> Network:
        """The network that the weights learned by a way are for."""
        return self.network if strategy.method == "reptile" else self._still

    def learn(
        self, images: Tensor, targets: Tensor, strategies: Sequence[Strategy], seed: int, seen: Tensor | None = None,
        cores: int = 1,
    ) -> Iterator[tuple[Strategy, Params]]:  # fmt: skip
        """Yields the network's weights by each of the ways, simplest first; each goes on from what is already there.

        images uint8 (n, height, width, channels), targets int64 (n,), each class at least once.
        seed: what the order of mini-batches is drawn from. seen: the images' `features`, if they are known.
        cores: for the gradient steps, see `fine_tune`.
        Raises TrainingDiverged if gradient steps end in a loss that is no number.
        """
        strategies = sorted(strategies, key=simplicity)
        if seen is None and any(strategy.method != "reptile" for strategy in strategies):
            seen = self.features(images)
        batches = mini_batches(
            len(targets), self._inner.batch_size, max(strategy.steps for strategy in strategies), (seed,)
        )
        state, done = self._start, 0
        if any(strategy.method == "reptile" for strategy in strategies):
            state = begin(self.network, self._start, self._head, images, targets)
        for strategy in strategies:
            if seen is not None and strategy.method != "reptile":
                yield strategy, {**self._start.params, **new_head(strategy.method, self._still, seen, targets)}
                continue
            rows = batches[done : strategy.steps]
            state, losses = fine_tune(self.network, state, images, targets, rows, self._inner, cores=cores)
            if not torch.isfinite(losses).all():
                raise TrainingDiverged(
                    "adapting to this support set ended in a loss that is no number; try fewer --steps"
                )
            done = strategy.steps
            yield strategy, state.params

    def inner(self, strategy: Strategy) -> InnerLoop:
        """The recipe's adaptation loop with this way's number of steps."""
        return self._inner.replace(steps=strategy.steps)
