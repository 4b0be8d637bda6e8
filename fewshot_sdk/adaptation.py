"""From an initialization and a user's own examples to a classifier."""

from __future__ import annotations

from pathlib import Path

import torch

from fewshot_sdk.backbones import build_network, norm_statistics
from fewshot_sdk.checkpoint import Initialization
from fewshot_sdk.classifier import FORMAT, Classifier
from fewshot_sdk.errors import TrainingDiverged
from fewshot_sdk.heads import open_head
from fewshot_sdk.inner_loop import fine_tune, one_thread
from fewshot_sdk.native import made_with
from fewshot_sdk.records import ClassifierConfig, Origin
from fewshot_sdk.support import SupportSet, read_support
from fewshot_sdk.tasks import mini_batches


def adapt(
    init: Initialization, support: SupportSet | str | Path, *, steps: int | None = None, seed: int = 0
) -> Classifier:
    """The classifier that `init` becomes after a few gradient steps on the support set.

    support: a folder of class folders, or a SupportSet preprocessed with the recipe's settings.
    steps: inner steps; None takes the recipe's. The normalization is then frozen to the statistics
    of the support set, so that each later picture is judged alone.
    Raises SupportError and ImageError for a folder that cannot be used, ConfigError if a dense
    head has another number of rows than there are classes.
    """
    recipe = init.recipe
    inner = recipe.adaptation if steps is None else recipe.adaptation.replace(steps=steps)
    if not isinstance(support, SupportSet):
        support = read_support(support, recipe.preprocessing)
    network = build_network(recipe.backbone, recipe.preprocessing, len(support.labels))
    start = open_head(init.state, recipe.head, network)
    images, targets = torch.from_numpy(support.images), torch.from_numpy(support.targets)
    batches = mini_batches(len(targets), inner.batch_size, inner.steps, (seed,))
    with one_thread():
        state, losses = fine_tune(network, start, images, targets, batches, inner)
        statistics = norm_statistics(network, state.params, images)
    if not torch.isfinite(losses).all():
        raise TrainingDiverged("adapting to this support set ended in a loss that is no number; try fewer --steps")
    return Classifier(
        config=ClassifierConfig(
            format=FORMAT,
            labels=support.labels,
            preprocessing=recipe.preprocessing,
            backbone=recipe.backbone,
            adaptation=inner,
            seed=seed,
            initialization=Origin(
                name=recipe.preset,
                sha256=init.sha256,
                provenance=init.provenance,
                data=str(recipe.data),
                source=init.source,
            ),
            versions=made_with(),
        ),
        params={**state.params, **statistics},
        support=support,
    )
