"""The page of `fewshot test`: how good a classifier is, and the pictures it was wrong about; without scripts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from fewshot_sdk.runtime.scoring import ClassScore, Score, Trial
from fewshot_sdk.storage import rendering

SHOWN, MATRIX_CLASSES, SIDE = 200, 30, 224  # wrong pictures, classes of the matrix, pixels of a picture's longer side


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A count of the matrix and its share of the row; right: whether it should be high."""

    count: int
    share: float
    right: bool


def render(title: str, score: Score, labels: Sequence[str], pictures: Sequence[str], notes: Sequence[str]) -> str:
    """The page as HTML, with its pictures inside and nothing to fetch.

    labels: the model's; pictures: data URIs of the first of the wrong ones, see `data_uri`, empty for one that is
    gone; notes: sentences under the result.
    """
    rows = [*score.classes, *score.foreign]
    small = len(rows) <= MATRIX_CLASSES and len(labels) <= MATRIX_CLASSES
    return rendering.render(
        "web/assets/scored.html.j2",
        title=title,
        score=score,
        labels=labels,
        matrix=[(row.label, _cells(row, labels)) for row in rows] if small else [],
        most=MATRIX_CLASSES,
        wrong=list(zip(score.wrong, pictures, strict=False)),
        notes=notes,
        answer=answer,
    )


def answer(one: Trial) -> str:
    """A wrong answer in words."""
    if one.answer is None:
        return f"called unknown (nearest: {one.nearest} {one.probability:.0%})"
    return f"taken for {one.answer} ({one.probability:.0%})"


def data_uri(image: Image.Image) -> str:
    """The picture as a data URI, at most SIDE pixels wide and high."""
    data, shown = io.BytesIO(), image.convert("RGB")
    shown.thumbnail((SIDE, SIDE))
    shown.save(data, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _cells(row: ClassScore, labels: Sequence[str]) -> list[Cell]:
    counts = {**dict(row.taken_for), row.label: row.right}
    known = row.label in labels
    cells = [Cell(count=counts.get(to, 0), share=counts.get(to, 0) / row.n, right=to == row.label) for to in labels]
    return [*cells, Cell(count=row.unknown, share=row.unknown / row.n, right=not known)]
