"""report.html: an adaptation's pictures, comparison and choice, on one self-contained page without scripts."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot_sdk.config.records import CurvePoint
from fewshot_sdk.config.verdict import Verdict
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.storage import rendering
from fewshot_sdk.web.mistakes import cards

if TYPE_CHECKING:
    from fewshot_sdk.adaptation.mistakes import Mistake

SHOWN_CLASSES, SHOWN_IMAGES, MATRIX_CLASSES, SHOWN_PAIRS, BINS, THUMBNAIL = 60, 12, 30, 6, 10, 96


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the comparison; accuracy and error in percent, log loss in nats, seconds for one adaptation."""

    method: str
    accuracy: float
    error: float
    log_loss: float
    seconds: float
    chosen: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutAnswers:
    """The answers of cross-validation: probabilities (m, n_way), targets (m,), and rows of the support set (m,)."""

    probabilities: NDArray[np.float64]
    targets: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What the page shows.

    findings: (severity, text); notes: sentences, for example what was chosen and why; rejection: what `unknown` costs
    and gives; guessing: the accuracy of always naming the commonest class. example: what an example is called; only
    pictures are shown.
    """

    title: str
    support: SupportSet
    notes: Sequence[str]
    findings: Sequence[tuple[str, str]] = ()
    comparison: Sequence[Row] = ()
    held_out: HeldOutAnswers | None = None
    verdict: Verdict | None = None
    curve: Sequence[CurvePoint] = ()
    rejection: str = ""
    guessing: float | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    commands: Sequence[str] = ()
    mistakes: Sequence[Mistake] = ()
    example: str = "picture"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two classes of which the first was taken for the second in `count` pictures.

    example, reference: data URIs of a picture that was taken for the other class, and of a picture of that class; empty
    if they are not pictures.
    """

    truth: str
    predicted: str
    count: int
    example: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The held-out answers with a confidence in one tenth: their mean confidence and accuracy, from 0 to 1."""

    confidence: float
    accuracy: float
    count: int


def render(report: Report) -> str:
    """The page as HTML, with its pictures inside, no script and nothing to fetch."""
    support, answers, shown = report.support, report.held_out, report.example == "picture"
    classes = [
        (label, [picture(image) for image in images[:SHOWN_IMAGES] if shown], len(images))
        for label, images in (
            (label, support.images[support.targets == i]) for i, label in enumerate(support.labels[:SHOWN_CLASSES])
        )
    ]
    matrix = confusion(answers, len(support.labels)) if answers else None
    return rendering.render(
        "web/assets/report.html.j2",
        report=report,
        classes=classes,
        more_classes=max(len(support.labels) - SHOWN_CLASSES, 0),
        matrix=matrix.tolist() if matrix is not None and len(matrix) <= MATRIX_CLASSES else None,
        most=MATRIX_CLASSES,
        pairs=most_confused(answers, support, shown=shown) if answers else [],
        bins=reliability(answers) if answers else [],
        curve=on_page(report.curve),
        mistakes=cards(report.mistakes, support),
    )


def on_page(points: Sequence[CurvePoint]) -> list[tuple[float, CurvePoint]]:
    """Each point and its place from left to right, from 0 to 1, on a scale of doublings."""
    if not points:
        return []
    first, last = math.log2(points[0].shots), math.log2(points[-1].shots)
    return [((math.log2(point.shots) - first) / (last - first or 1), point) for point in points]


def picture(image: Pixels) -> str:
    """A data URI of an image as the network sees it, uint8 (height, width, channels); a large one is made smaller."""
    data, shown = io.BytesIO(), Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    kind = "jpeg" if max(shown.size) > THUMBNAIL else "png"
    shown.thumbnail((THUMBNAIL, THUMBNAIL))
    shown.save(data, format=kind, optimize=True)
    return f"data:image/{kind};base64," + base64.b64encode(data.getvalue()).decode()


def confusion(answers: HeldOutAnswers, n_way: int) -> NDArray[np.int64]:
    """How often each class (row) was taken for each class (column): int64 (n_way, n_way)."""
    counts = np.zeros((n_way, n_way), np.int64)
    np.add.at(counts, (answers.targets, answers.probabilities.argmax(1)), 1)
    return counts


def most_confused(answers: HeldOutAnswers, support: SupportSet, *, shown: bool = True) -> list[Pair]:
    """The classes whose pictures were most often taken for another one's, with an example of each."""
    predicted, n_way = answers.probabilities.argmax(1), len(support.labels)
    wrong = predicted != answers.targets
    each = np.unique(np.stack([answers.targets, predicted, answers.rows])[:, wrong], axis=1)  # once in all repeats
    pictures = np.bincount(each[0] * n_way + each[1])
    pairs = []
    for flat in np.argsort(-pictures, kind="stable")[:SHOWN_PAIRS]:
        truth, other = divmod(int(flat), n_way)
        if pictures[flat] == 0:
            break
        rows = np.unique(answers.rows[(answers.targets == truth) & (predicted == other)])
        reference = int(np.flatnonzero(support.targets == other)[0])
        pairs.append(
            Pair(
                truth=support.labels[truth],
                predicted=support.labels[other],
                count=len(rows),
                example=picture(support.images[rows[0]]) if shown else "",
                reference=picture(support.images[reference]) if shown else "",
            )
        )
    return pairs


def reliability(answers: HeldOutAnswers) -> list[Bin]:
    """Accuracy against confidence in ten equal bins, without the empty ones. Source: Guo et al. 2017, figure 1."""
    confidence = answers.probabilities.max(1)
    right = answers.probabilities.argmax(1) == answers.targets
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return [
        Bin(confidence=float(confidence[here].mean()), accuracy=float(right[here].mean()), count=int(here.sum()))
        for here in (bins == b for b in range(BINS))
        if here.any()
    ]
