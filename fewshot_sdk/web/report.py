"""report.html: what an adaptation saw, compared and chose, as one self-contained page without scripts."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.storage import rendering

SHOWN_CLASSES, SHOWN_IMAGES, MATRIX_CLASSES, SHOWN_PAIRS, BINS = 60, 12, 30, 6, 10


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the comparison; accuracy and error in percent, log loss in nats, seconds for one adaptation."""

    method: str
    accuracy: float
    error: float
    log_loss: float
    seconds: float
    chosen: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutAnswers:
    """Cross-validation's answers: probabilities (m, n_way), targets and rows of the support set, (m,)."""

    probabilities: NDArray[np.float64]
    targets: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What the page shows. findings: (severity, text); notes: sentences such as what was chosen and why."""

    title: str
    support: SupportSet
    notes: Sequence[str]
    findings: Sequence[tuple[str, str]] = ()
    comparison: Sequence[Row] = ()
    held_out: HeldOutAnswers | None = None
    threshold: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)
    commands: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two classes of which one was taken for the other `count` times; `said_of` and `like` are data URIs."""

    truth: str
    said: str
    count: int
    said_of: str
    like: str


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The held-out answers with a probability in one tenth: how sure they were, and how right, from 0 to 1."""

    confidence: float
    accuracy: float
    count: int


def render(report: Report) -> str:
    """The page as text: HTML with its pictures inside, no script and nothing to fetch."""
    support, answers = report.support, report.held_out
    classes = [
        (label, [picture(image) for image in images[:SHOWN_IMAGES]], len(images))
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
        pairs=most_confused(report, matrix) if matrix is not None else [],
        bins=reliability(answers) if answers else [],
    )


def picture(image: Pixels) -> str:
    """A data URI of an image as the network sees it, uint8 (height, width, channels)."""
    data = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(data, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def confusion(answers: HeldOutAnswers, n_way: int) -> NDArray[np.int64]:
    """How often each class (row) was taken for each (column), int64 (n_way, n_way)."""
    counts = np.zeros((n_way, n_way), np.int64)
    np.add.at(counts, (answers.targets, answers.probabilities.argmax(1)), 1)
    return counts


def most_confused(report: Report, matrix: NDArray[np.int64]) -> list[Pair]:
    """The pairs most often taken for one another, each with a picture that was, and one of what it was taken for."""
    answers, support = report.held_out, report.support
    assert answers is not None
    off = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    said = answers.probabilities.argmax(1)
    pairs = []
    for flat in np.argsort(-off, axis=None, kind="stable")[:SHOWN_PAIRS]:
        truth, taken = divmod(int(flat), len(matrix))
        if off[truth, taken] == 0:
            break
        row = answers.rows[(answers.targets == truth) & (said == taken)][0]
        like = int(np.flatnonzero(support.targets == taken)[0])
        pairs.append(
            Pair(
                truth=support.labels[truth],
                said=support.labels[taken],
                count=int(off[truth, taken]),
                said_of=picture(support.images[row]),
                like=picture(support.images[like]),
            )
        )
    return pairs


def reliability(answers: HeldOutAnswers) -> list[Bin]:
    """Accuracy against confidence in ten equal bins, the empty ones left out. Source: Guo et al. 2017, figure 1."""
    confidence = answers.probabilities.max(1)
    right = answers.probabilities.argmax(1) == answers.targets
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return [
        Bin(confidence=float(confidence[here].mean()), accuracy=float(right[here].mean()), count=int(here.sum()))
        for here in (place == b for b in range(BINS))
        if here.any()
    ]
