"""Changing a finished classifier without adapting it again: other names, fewer classes, another threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fewshot_sdk.artifacts.classifier import Classifier, Delta
from fewshot_sdk.artifacts.opening import Base, base_of, classifier_in
from fewshot_sdk.config.edits import Edit
from fewshot_sdk.config.records import Calibration
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.storage.bundles import DELTA, format_of, settings_of
from fewshot_sdk.storage.deltas import HEAD, STEP, of_classes
from fewshot_sdk.storage.files import SIGNATURE, manifest_of, sha256
from fewshot_sdk.storage.repositories import Opened
from fewshot_sdk.storage.tensors import from_bytes, to_bytes

REPORT = "report.html"  # of `fewshot adapt`; shows the pictures by their labels


def edited(classifier: Classifier, edit: Edit) -> Classifier:
    """The classifier with other names, fewer classes or another threshold, and the edit on record.

    The weights of the classes that remain keep their bits. So do the temperature, the limit of the score and the centre
    that it is seen from, which were fitted with all classes: a picture is as near to its own class as before. What was
    measured with classes that are dropped, accuracy and comparison, is no longer stated.
    Raises ConfigError as `Edit.applied` does.
    """
    kept, labels = edit.applied(classifier.labels)
    config, support, sums = classifier.config, classifier.support, classifier.class_sums
    changes: dict[str, object] = {"labels": labels, "edits": (*config.edits, edit)}
    if edit.threshold is not None:
        changes["threshold"] = edit.threshold
    if edit.dropped:
        changes |= {"calibration": None, "comparison": ()}
    elif config.calibration is not None:
        changes["calibration"] = _renamed(config.calibration, edit)
    rows = torch.tensor(kept)
    head = {name: tensor[rows] for name, tensor in classifier.params.items() if name.startswith(HEAD)}
    shown = np.isin(support.targets, kept)
    return replace(
        classifier,
        config=config.replace(**changes),
        params={**classifier.params, **head},
        support=SupportSet(
            labels=labels, images=support.images[shown], targets=np.searchsorted(kept, support.targets[shown])
        ),
        class_sums=None if sums is None else {name: tensor[rows] for name, tensor in sums.items()},
    )


def edited_files(files: Mapping[str, bytes], where: Path, edit: Edit, base: Base = None) -> dict[str, bytes]:
    """A classifier's folder after an edit, from its files, which were read and checked.

    Without the signature, which no longer fits, and, if labels change, the report, which shows the pictures by the old
    ones. A delta stays one; its numbers stay the same, but for the case that `of_classes` names.
    base: as for `load_classifier`. Raises as it does, and ConfigError as `Edit.applied` does.
    """
    before = classifier_in(Opened(files=dict(files), folder=where), base)
    after = edited(before, edit.replace(sha256=sha256(manifest_of(files))))
    made = after.files()
    if format_of(files["config.json"]) == DELTA.name:
        config = settings_of(files, where, DELTA)
        init = base_of(config.initialization, where, base)
        made = Delta(classifier=after, base=init, precision=config.precision).files()
        made[STEP] = files[STEP]
        if edit.dropped:
            tensors = {name: tensor.numpy() for name, tensor in before.params.items()}
            start = {name: tensor.contiguous().numpy() for name, tensor in init.state.params.items()}
            step, (kept, _) = from_bytes(files[STEP], str(where / STEP)), edit.applied(before.labels)
            made[STEP] = to_bytes(of_classes(step, tensors, start, kept, config.precision))
    gone = {SIGNATURE, *((REPORT,) if after.labels != before.labels else ())}
    return {**{name: data for name, data in files.items() if name not in gone}, **made}


def _renamed(found: Calibration, edit: Edit) -> Calibration:
    pair = found.confused
    if pair is None:
        return found
    first, second = (edit.renamed.get(name, name) for name in (pair.first, pair.second))
    return found.replace(confused=pair.replace(first=first, second=second))
