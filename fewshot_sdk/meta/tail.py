"""Meta-training the last stages of a network whose weights come trained, on tasks of several domains."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from fewshot_sdk.artifacts.initialization import Initialization, from_weights
from fewshot_sdk.config.backbones import EfficientNet, spread
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.data.domains import DomainTasks
from fewshot_sdk.engine.compiler import made_with
from fewshot_sdk.engine.heads import Head
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.meta.own_networks import meta_train_network
from fewshot_sdk.meta.training import MetaStep
from fewshot_sdk.nets.network import HEAD, build_network

FROZEN = ("stem", "stage1", "stage2", "stage3", "stage4")  # 7 % of the weights, 41 % of a forward pass's products


class Scaled(nn.Module):
    """A network's features, of such a length that squared distances are logits; see `heads.spread`."""

    def __init__(self, body: nn.Module, scale: float) -> None:
        super().__init__()
        self.body, self.scale = body, scale

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (n, height, width, channels) -> (n, n_features)."""
        features: Tensor = self.body(images)
        return features * self.scale


def meta_train_tail(
    start: Initialization,
    tasks: DomainTasks,
    *,
    recipe: Recipe,
    command: str = "meta_train_tail(...)",
    workers: Workers | None = None,
) -> Iterator[MetaStep]:
    """Yields one MetaStep for each outer step of `recipe`; stages before the fifth keep the weights of `start`.

    start: an EfficientNet with trained weights. recipe: what to train by, with the backbone of `start` (the summary may
    differ); its head is `prototype` for ProtoNet, otherwise `zero`. Same arguments, same bits, for any number of
    workers. Raises ConfigError if the networks differ.
    """
    was, backbone = start.recipe.backbone, recipe.backbone
    if not isinstance(was, EfficientNet) or not isinstance(backbone, EfficientNet) or was.variant != backbone.variant:
        raise ConfigError(f"start: expected the network of the recipe, {backbone.described()}, found {was.described()}")
    network = build_network(backbone, recipe.preprocessing, tasks.n_way)
    body = {name: tensor for name, tensor in start.state.params.items() if name not in HEAD}
    network.load_state_dict({**body, **{name: torch.zeros_like(network.get_parameter(name)) for name in HEAD}})
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.partition(".")[0] not in FROZEN)
    trained, prefix = cast("nn.Module", network), ""
    if recipe.head == "prototype":
        n_features = network.get_parameter(HEAD[0]).shape[1]
        trained, prefix = Scaled(network.before_head(), spread(n_features, backbone.kind) ** -0.5), "body."
    seconds, began = 0.0, time.monotonic()
    head: Head | None = "zero" if recipe.head == "zero" else None
    for step in meta_train_network(
        trained, tasks.task, inner=recipe.inner, meta=recipe.meta, head=head, workers=workers
    ):
        seconds += time.monotonic() - began
        moved = {name.removeprefix(prefix): tensor for name, tensor in step.params.items()}
        made = Provenance(
            command=command,
            seed=tasks.seed,
            meta_steps_done=step.done,
            data_sha256=tasks.digest,
            seconds=round(seconds, 1),
            versions=made_with("cpu"),
            weights=start.provenance.weights,
        )
        state = from_weights(recipe, {**body, **moved}, made)
        yield MetaStep(done=step.done, meta_steps=recipe.meta.meta_steps, loss=step.loss, initialization=state)
        began = time.monotonic()
