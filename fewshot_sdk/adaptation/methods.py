"""The three ways from an initialization to a classifier; each ends as the network with a linear head.

prototypes  no gradient step: each class is the mean of its pictures' features
probe       a linear classifier on the features
reptile     gradient steps on the whole network, as in meta-training
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.backbones import judges_alone
from fewshot_sdk.config.recipe import Backbone, InnerLoop, Recipe, Residual
from fewshot_sdk.config.records import Method
from fewshot_sdk.data.tasks import mini_batches
from fewshot_sdk.engine.heads import Head, fits, open_any_head
from fewshot_sdk.engine.inner_loop import fine_tune
from fewshot_sdk.engine.optimizers import light
from fewshot_sdk.errors import TrainingDiverged
from fewshot_sdk.nets.network import HEAD, Network, build_network, norm_statistics
from fewshot_sdk.nets.params import LearnerState, Params

PENALTY = 1.0
AT_ONCE = 64  # pictures, where each is judged alone: bounds the memory
PROBE_ITERATIONS = 50
# Of class means: with it the best temperature on new classes is about 1. For timm models it is that of `residual`,
# whose features have the same length, for fully connected ones that of `conv4`; not measured, for want of weights.
SHARPNESS = {"conv4": 1.0, "mlp": 1.0, "residual": 25.0, "timm": 25.0}


@dataclass(frozen=True, kw_only=True)
class Way:
    """A method, and its number of gradient steps on the whole network: 0 for all but reptile."""

    method: Method
    steps: int = 0


def simplicity(way: Way) -> tuple[int, int]:
    """What sorts ways from simple to involved: prototypes, probe, reptile by its number of steps."""
    return ("prototypes", "probe", "reptile").index(way.method), way.steps


class Student:
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
        return judges_alone(self.network.backbone)

    def features(self, images: Tensor) -> Tensor:
        """What class means and probes see of a support set: (n, n_features)."""
        return features(self._still, self._start.params, images)

    def network_of(self, way: Way) -> Network:
        """The network that the weights learned by a way are for."""
        return self.network if way.method == "reptile" else self._still

    def learn(
        self, images: Tensor, targets: Tensor, ways: Sequence[Way], seed: int, seen: Tensor | None = None,
        cores: int = 1,
    ) -> Iterator[tuple[Way, Params]]:  # fmt: skip
        """Yields the network's weights by each of the ways, simplest first; each goes on from what is already there.

        images uint8 (n, height, width, channels), targets int64 (n,), each class at least once.
        seed: what the order of mini-batches is drawn from. seen: the images' `features`, if they are known.
        cores: for the gradient steps, see `fine_tune`.
        Raises TrainingDiverged if gradient steps end in a loss that is no number.
        """
        ways = sorted(ways, key=simplicity)
        if seen is None and any(way.method != "reptile" for way in ways):
            seen = self.features(images)
        batches = mini_batches(len(targets), self._inner.batch_size, max(way.steps for way in ways), (seed,))
        state, done = self._start, 0
        if any(way.method == "reptile" for way in ways):
            state = begin(self.network, self._start, self._head, images, targets)
        for way in ways:
            if seen is not None and way.method != "reptile":
                yield way, {**self._start.params, **new_head(way.method, self._still, seen, targets)}
                continue
            rows = batches[done : way.steps]
            state, losses = fine_tune(self.network, state, images, targets, rows, self._inner, cores=cores)
            if not torch.isfinite(losses).all():
                raise TrainingDiverged(
                    "adapting to this support set ended in a loss that is no number; try fewer --steps"
                )
            done = way.steps
            yield way, state.params

    def inner(self, way: Way) -> InnerLoop:
        """The recipe's adaptation loop with this way's number of steps."""
        return self._inner.replace(steps=way.steps)


def seen_still(recipe: Recipe) -> Backbone:
    """The backbone as class means and probes see by it: a residual one by statistics of its stages.

    On mini-ImageNet's validation classes, 8-way 5-shot, that gave the probe a point, on grey textures and pictures of
    clothes both ways two to four. A ProtoNet keeps what it was trained with.
    """
    backbone = recipe.backbone
    if isinstance(backbone, Residual) and recipe.head != "prototype":
        return backbone.replace(summary="statistics")
    return backbone


def new_head(method: Literal["prototypes", "probe"], network: Network, seen: Tensor, targets: Tensor) -> Params:
    """A head for features (n, n_features) of that network, by one of the ways that take no step in it."""
    if method == "prototypes":
        return prototypes(seen, targets, network.n_way, network.backbone.kind)
    return probe(seen, targets, network.n_way)


def begin(network: Network, opened: LearnerState, head: Head, images: Tensor, targets: Tensor) -> LearnerState:
    """What a task's inner steps start from: `opened`, and with a prototype head the class means as its rows."""
    if head != "prototype":
        return opened
    seen = features(network, opened.params, images)
    return replace(opened, params={**opened.params, **prototypes(seen, targets, network.n_way, network.backbone.kind)})


def features(network: Network, params: Params, images: Tensor) -> Tensor:
    """What the head sees of a support set, by its own statistics: (n, n_features)."""
    network.train()
    if not judges_alone(network.backbone):
        return _before_head(network, params, images)
    return torch.cat([_before_head(network, params, few) for few in torch.split(images, AT_ONCE)])


def frozen_features(network: Network, images: Tensor) -> Tensor:
    """What the head of a classifier's network sees, by the network's frozen statistics: (n, n_features)."""
    return _before_head(network, {}, images)


def _before_head(network: Network, params: Params, images: Tensor) -> Tensor:
    body = {name: tensor for name, tensor in params.items() if name not in HEAD}
    with torch.no_grad():
        found: Tensor = functional_call(network.before_head(), body, (images,))
    return found


def prototypes(seen: Tensor, targets: Tensor, n_way: int, kind: str) -> Params:
    """A head whose logits are, up to a common shift, minus the squared distance to each class's mean.

    seen: features (n, n_features) of a network of that kind. Source: Snell et al. 2017, section 2.3.
    """
    return prototype_head(*class_sums(seen, targets, n_way), kind)


def class_sums(seen: Tensor, targets: Tensor, n_way: int) -> tuple[Tensor, Tensor]:
    """The sum of each class's features, float64 (n_way, n_features), and how many there are, int64 (n_way,)."""
    sums = torch.zeros(n_way, seen.shape[1], dtype=torch.float64).index_add_(0, targets, seen.double())
    return sums, torch.bincount(targets, minlength=n_way)


def prototype_head(sums: Tensor, counts: Tensor, kind: str) -> Params:
    """The head: weight 2 (m - c) / s and bias (|c|^2 - |m|^2) / s of each class's mean m.

    c, the mean of the means, shifts all logits alike and keeps them small, for the sake of rounding.
    s, `spread`, moves no decision; with it the best temperature is about 1, on unseen characters
    and on mini-ImageNet's validation classes (5-way 1-shot 0.8, 5-shot 0.4), and of networks of any width alike.
    """
    means = sums / counts.unsqueeze(1)
    centre, scale = means.mean(0), spread(sums.shape[1], kind)
    return {
        "head.weight": (2 * (means - centre) / scale).float().contiguous(),
        "head.bias": ((centre.square().sum() - means.square().sum(1)) / scale).float(),
    }


def spread(n_features: int, kind: str) -> float:
    """What squared distances of features are divided by to be logits: 4 n_features / SHARPNESS."""
    return 4 * n_features / SHARPNESS[kind]


def probe(seen: Tensor, targets: Tensor, n_way: int) -> Params:
    """Multinomial logistic regression: the least of sum_i cross-entropy_i + PENALTY / 2 |weight|^2, by L-BFGS.

    The features are centred meanwhile, so that the penalty does not depend on where zero is.
    Source: Nocedal and Wright 2006, algorithm 7.5, as in PyTorch.
    """
    centre = seen.mean(0)
    centred = seen - centre
    weight = torch.zeros(n_way, seen.shape[1], requires_grad=True)
    bias = torch.zeros(n_way, requires_grad=True)
    search = light(torch.optim.LBFGS)([weight, bias], max_iter=PROBE_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        logits = torch.addmm(bias, centred, weight.T)
        total = nn.functional.cross_entropy(logits, targets, reduction="sum")
        penalized = (total + PENALTY / 2 * weight.square().sum()) / len(targets)
        weight.grad, bias.grad = torch.autograd.grad(penalized, (weight, bias))
        return penalized.detach()

    with torch.no_grad():  # `loss` is called with gradients all the same
        search.step(loss)  # type: ignore[no-untyped-call]
    weight, bias = weight.detach(), bias.detach()
    return {"head.weight": weight, "head.bias": bias - weight @ centre}


def frozen(network: Network, params: Params, support: Tensor) -> Params:
    """The weights, and the norms' statistics over the support set: all that the network's state dict names."""
    network.train()
    return {**params, **norm_statistics(network, params, support)}
