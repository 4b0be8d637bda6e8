"""Adding classes, or pictures of the old classes, to an existing classifier, and correcting labels."""

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
from fewshot_sdk.artifacts.embeddings import for_rows
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.backbones import Embeddings
from fewshot_sdk.config.edits import Edit
from fewshot_sdk.config.recipe import Rows
from fewshot_sdk.config.records import ClassifierConfig
from fewshot_sdk.engine.features import feature_backbones, features_of_views, frozen_features
from fewshot_sdk.engine.heads import class_sums, prototype_head
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.errors import SupportError, listed
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
    A kept picture that is in `more` under another label moves to that class (see `corrected`). Pictures that are only
    in sums cannot be recognized: what was wrong with them stays.
    reject_rate: for a classifier without one, as with one picture a class; None leaves it without.
    warn: called with each of the doctor's warnings, if `more` is a folder, CSV or zip.
    Raises SupportError if neither is possible, if a class would lose its last picture, or with all errors that the
    doctor finds.
    """
    config = classifier.config
    if not isinstance(more, SupportSet):
        preprocessing = config.preprocessing
        examined = read_examined(more, [preprocessing], kept=classifier.support, warn=warn)
        more = examined.supports[preprocessing]
    kept = len(classifier.support.targets) > 0
    right, wrong = corrected(classifier.support, more)
    init = next((init for init in inits.values() if init.sha256 == config.initialization.sha256), None)
    if isinstance(config.backbone, Embeddings) and isinstance(config.preprocessing, Rows):
        init = for_rows(union(right, more), config.preprocessing, config.backbone)  # scaled by all rows
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
            support=union(right, more),
            strategies=(strategy,),
        )
        share = calibration.reject_rate if calibration else reject_rate
        made = adapt_candidates([candidate], config.method, reject_rate=share, seed=config.seed, watch=watch)
        return replace(
            made,
            classifier=_with_threshold_of(config, made.classifier),
            reason=f"adapted again to the old {config.preprocessing.example}s and the new" + _moved(wrong),
        )
    if classifier.class_sums is None:
        missing = (
            f"its initialization, {config.initialization.name} (sha256 {config.initialization.sha256[:16]}...), is "
            "not available; name its folder with --init"
            if kept
            else "it keeps no pictures; adapt again to all of them, with --method prototypes if none are to be kept"
        )
        raise SupportError(f"this classifier was made by {config.method} and cannot be extended: {missing}")
    return Adaptation(
        classifier=_extended_sums(replace(classifier, support=right), more, wrong),
        reason="added to the sums of its prototypes; normalization, temperature and threshold are as before"
        + _moved(wrong),
    )


def corrected(kept: SupportSet, more: SupportSet) -> tuple[SupportSet, SupportSet]:
    """The kept pictures without those that `more` has, pixel by pixel, under another label; and these, as they were.

    Raises SupportError if a class that gets no picture would lose its last.
    """
    new = {image.tobytes(): more.labels[target] for image, target in zip(more.images, more.targets, strict=True)}
    labels = [kept.labels[target] for target in kept.targets]
    wrong = np.asarray(
        [new.get(i.tobytes(), label) != label for i, label in zip(kept.images, labels, strict=True)], bool
    )
    left = np.bincount(kept.targets[~wrong], minlength=len(kept.labels))
    empty = [label for label, n in zip(kept.labels, left, strict=True) if not n and label not in more.labels]
    if wrong.any() and empty:
        raise SupportError(
            f"all pictures of {listed(empty)} are corrected to other classes; add a right one of it, or take the class "
            "out with `fewshot edit --drop`"
        )
    right, moved = (
        SupportSet(labels=kept.labels, images=kept.images[which], targets=kept.targets[which])
        for which in (~wrong, wrong)
    )
    return right, moved


def _moved(wrong: SupportSet) -> str:
    n = len(wrong.targets)
    return f"; {n} of the old {'is' if n == 1 else 'are'} under another label now" if n else ""


def _with_threshold_of(config: ClassifierConfig, made: Classifier) -> Classifier:
    """A classifier with the threshold that an edit set, and that edit; what else was edited is in the pictures."""
    last = [edit for edit in config.edits if edit.threshold is not None][-1:]
    if not last:
        return made
    edits = (Edit(threshold=last[0].threshold, sha256=last[0].sha256),)
    return replace(made, config=made.config.replace(threshold=last[0].threshold, edits=edits))


def union(first: SupportSet, second: SupportSet) -> SupportSet:
    """Both support sets as one: labels sorted, pictures grouped by class, those of `first` first."""
    labels = tuple(sorted({*first.labels, *second.labels}))
    names = [part.labels[target] for part in (first, second) for target in part.targets]
    targets = np.asarray([labels.index(name) for name in names], np.int64)
    order = np.argsort(targets, kind="stable")
    images = np.concatenate([first.images, second.images])
    return SupportSet(labels=labels, images=images[order], targets=targets[order])


def _extended_sums(classifier: Classifier, more: SupportSet, wrong: SupportSet) -> Classifier:
    """The classifier with the sums of `more` added, and those of pictures that were under a wrong label taken away."""
    old = classifier.class_sums
    assert old is not None
    config = classifier.config
    labels = tuple(sorted({*config.labels, *more.labels}))
    positions = torch.tensor([labels.index(label) for label in config.labels])
    both = [(part.labels[target], sign) for part, sign in ((more, 1), (wrong, -1)) for target in part.targets]
    targets, signs = torch.tensor([labels.index(label) for label, _ in both]), torch.tensor([sign for _, sign in both])
    with one_thread():
        network = classifier.network()
        images = torch.from_numpy(np.concatenate([more.images, wrong.images]))
        if config.backbone.judges_alone:  # a few at a time
            features = features_of_views([network], dict(network.named_parameters()), images)[0].mean(0)
        else:
            features = frozen_features(network, images)
    sums, counts = class_sums(features[signs > 0], targets[signs > 0], len(labels))
    less, fewer = class_sums(features[signs < 0], targets[signs < 0], len(labels))
    sums.index_add_(0, positions, old["sums"])
    counts.index_add_(0, positions, old["counts"])
    sums, counts = sums - less, counts - fewer
    empty = SupportSet(labels=labels, images=classifier.support.images[:0], targets=classifier.support.targets[:0])
    support = union(classifier.support, more) if len(classifier.support.targets) else empty
    return Classifier(
        config=config.replace(labels=labels, comparison=(), calibration=None),
        params={**classifier.params, **prototype_head(sums, counts, config.backbone.kind)},
        support=support,
        class_sums={"sums": sums, "counts": counts},
        centre=None if classifier.centre is None else (sums / counts.unsqueeze(1)).mean(0).float(),
    )
