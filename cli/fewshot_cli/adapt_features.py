"""`fewshot adapt` to features computed elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fewshot_cli.watching import cross_validated, gathered
from fewshot_sdk.errors import SupportError

if TYPE_CHECKING:
    from fewshot_sdk.adaptation.adaptation import Adaptation
    from fewshot_sdk.artifacts.classifier import Classifier
    from fewshot_sdk.config.records import Method
    from fewshot_sdk.images.doctor import Finding

    Made = tuple[Adaptation, tuple[Finding, ...]]


def wanted(support: Path, start: str) -> bool:
    """Whether a support set is read as features: not with an initialization, nor a CSV of pictures or of x and y."""
    from fewshot_sdk.images.features import has_features

    return start == "auto" and has_features(support)


def adapted(
    support: Path, labels: Path | None, method: Method | Literal["auto"] | None, reject_rate: float | None, seed: int,
    in_report: bool,
) -> Made:  # fmt: skip
    """The classifier of the features in a file, and the doctor's warnings; in_report: as for `gathered`."""
    from fewshot_sdk.adaptation.adaptation import REJECT_RATE
    from fewshot_sdk.adaptation.features import compare_features, examined_features
    from fewshot_sdk.images.features import read_features

    with gathered(in_report) as warn:
        examined = examined_features(read_features(support, labels), warn)
    share = REJECT_RATE if reject_rate is None else reject_rate
    made = compare_features(examined, method=method or "auto", reject_rate=share, seed=seed, watch=cross_validated)
    return made, examined.warnings


def extended(classifier: Classifier, more: Path, labels: Path | None, in_report: bool) -> Made:
    """The classifier with the features in a file added, and the doctor's warnings about these."""
    from fewshot_sdk.adaptation.extension import extend
    from fewshot_sdk.adaptation.features import examined_features
    from fewshot_sdk.config.recipe import Rows
    from fewshot_sdk.images.features import read_features

    rows = classifier.config.preprocessing
    if not isinstance(rows, Rows):
        raise SupportError(f"{more}: it holds features, and the classifier is one of pictures; give it pictures")
    with gathered(in_report) as warn:
        examined = examined_features(read_features(more, labels, like=rows), warn, least=1)
    (support,) = examined.supports.values()
    return extend(classifier, support, {}, watch=cross_validated), examined.warnings
