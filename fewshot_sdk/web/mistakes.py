"""The part of report.html that shows the mistakes of cross-validation, and why they were made."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from fewshot_sdk.images.overlays import overlay
from fewshot_sdk.images.support import SupportSet

if TYPE_CHECKING:
    from fewshot_sdk.adaptation.mistakes import Mistake

SIDE = 112  # pixels


@dataclass(frozen=True, kw_only=True)
class Card:
    """A mistake as labels and data URIs."""

    truth: str
    predicted: str
    probability: float
    picture: str
    heat_map: str | None
    like_predicted: str
    like_truth: str


def cards(mistakes: Sequence[Mistake], support: SupportSet) -> list[Card]:
    """What the page shows of each mistake."""
    return [
        Card(
            truth=support.labels[one.truth],
            predicted=support.labels[one.predicted],
            probability=one.probability,
            picture=_uri(_shown(support, one.row)),
            heat_map=None if one.heat_map is None else _uri(overlay(_shown(support, one.row), one.heat_map)),
            like_predicted=_uri(_shown(support, one.like_predicted)),
            like_truth=_uri(_shown(support, one.like_truth)),
        )
        for one in mistakes
    ]


def _shown(support: SupportSet, row: int) -> Image.Image:
    """The network's pixels of a picture, resized to SIDE along the longer side."""
    image = Image.fromarray(support.images[row].squeeze(2) if support.images.shape[3] == 1 else support.images[row])
    factor = SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.convert("RGB").resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST)


def _uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
