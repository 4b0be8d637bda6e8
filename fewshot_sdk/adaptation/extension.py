"""Adding classes, or pictures of the old classes, to an existing classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fewshot_sdk.adaptation.adaptation import REJECT_RATE, Adaptation, adapt_candidates
from fewshot_sdk.adaptation.cross_validation import Candidate, Watch
from fewshot_sdk.adaptation.methods import Strategy
from fewshot_sdk.artifacts.classifier import Classifier
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.engine.features import feature_backbones, features_of_views, frozen_features
from fewshot_sdk.engine.heads import class_sums, prototype_head
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.examination import Warn, read_examined
from fewshot_sdk.images.support import SupportSet


def extend(
    classifier: Classifier,
    more: SupportSet | str | Path,
    inits: Mapping[str, Initialization],
    *,
    reject_rate: float | None = REJECT_RATE,
    warn: Warn = lambda finding: None,  # noqa: ARG005
    watch: Watch = lambda work, total: work,  # noqa: ARG005
) -> Adaptation:
    """The classifier of its own classes and those of `more`; a label in both is one class.

    If it keeps its pictures and its initialization is among `inits`, found by its hash, it is adapted again to all
    pictures by the same method, steps, seed and reject rate: the same as adapting to the union in the first place.
    Otherwise prototypes are extended by their sums: each class's mean is that of all its pictures, while the
    network's normalization, the temperature and the threshold stay as they are.
    reject_rate: for a classifier without one, as with one picture a class; None leaves it without.
    warn: called with each of the doctor's warnings, if `more` is a folder, CSV or zip.
    Raises SupportError if neither is possible, or with all errors that the doctor finds.
    """
    config = classifier.config
    if not isinstance(more, SupportSet):
        preprocessing = config.preprocessing
        examined = read_examined(more, [preprocessing], kept=classifier.support, warn=warn)
        more = examined.supports[preprocessing]
    kept = len(classifier.support.targets) > 0
    init = next((init for init in inits.values() if init.sha256 == config.initialization.sha256), None)
    if kept and init is not None:
        calibration = config.calibration
        loop = init.recipe.adaptation.replace(trainable=config.adaptation.trainable)
        recipe = init.recipe.replace(adaptation=loop, preprocessing=config.preprocessing)
        backbones = feature_backbones(recipe)
        features = backbones.index(config.backbone) if config.backbone in backbones else 0
        rate = config.adaptation.learning_rate if config.adaptation.trainable == "tail" else None
        strategy = Strategy(method=config.method, steps=config.adaptation.steps, features=features, rate=rate)
        candidate = Candidate(
            name=config.initialization.name,
            init=replace(init, recipe=recipe),
            support=union(classifier.support, more),
            strategies=(strategy,),
        )
        share = calibration.reject_rate if calibration else reject_rate
        made = adapt_candidates([candidate], config.method, reject_rate=share, seed=config.seed, watch=watch)
        return replace(made, reason="adapted again to the old pictures and the new")
    if classifier.class_sums is None:
        missing = (
            f"its initialization, {config.initialization.name} (sha256 {config.initialization.sha256[:16]}...), is "
            "not available; name its folder with --init"
            if kept
            else "it keeps no pictures; adapt again to all of them, with --method prototypes if none are to be kept"
        )
        raise SupportError(f"this classifier was made by {config.method} and cannot be extended: {missing}")
    return Adaptation(
        classifier=_extended_sums(classifier, more),
        reason="added to the sums of its prototypes; normalization, temperature and threshold are as before",
    )


def union(first: SupportSet, second: SupportSet) -> SupportSet:
    """Both support sets as one: labels sorted, pictures grouped by class, those of `first` first."""
    labels = tuple(sorted({*first.labels, *second.labels}))
    names = [part.labels[target] for part in (first, second) for target in part.targets]
    targets = np.asarray([labels.index(name) for name in names], np.int64)
    order = np.argsort(targets, kind="stable")
    images = np.concatenate([first.images, second.images])
    return SupportSet(labels=labels, images=images[order], targets=targets[order])


def _extended_sums(classifier: Classifier, more: SupportSet) -> Classifier:
    old = classifier.class_sums
    assert old is not None
    config = classifier.config
    labels = tuple(sorted({*config.labels, *more.labels}))
    positions = torch.tensor([labels.index(label) for label in config.labels])
    targets = torch.tensor([labels.index(more.labels[target]) for target in more.targets])
    with one_thread():
        network, images = classifier.network(), torch.from_numpy(more.images)
        if config.backbone.judges_alone:  # a few at a time
            features = features_of_views([network], dict(network.named_parameters()), images)[0].mean(0)
        else:
            features = frozen_features(network, images)
    sums, counts = class_sums(features, targets, len(labels))
    sums.index_add_(0, positions, old["sums"])
    counts.index_add_(0, positions, old["counts"])
    empty = SupportSet(labels=labels, images=classifier.support.images[:0], targets=classifier.support.targets[:0])
    support = union(classifier.support, more) if len(classifier.support.targets) else empty
    return Classifier(
        config=config.replace(labels=labels, comparison=(), calibration=None),
        params={**classifier.params, **prototype_head(sums, counts, config.backbone.kind)},
        support=support,
        class_sums={"sums": sums, "counts": counts},
        centre=None if classifier.centre is None else (sums / counts.unsqueeze(1)).mean(0).float(),
    )
