from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from fewshot_sdk.adaptation.mistakes import Mistake
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.web.mistakes import SIDE
from fewshot_sdk.web.report import THUMBNAIL, Report, render


def report(mistakes: int, side: int = 300, heat: bool = True) -> Report:
    rng = np.random.default_rng(0)
    support = SupportSet(
        labels=("<i>a", "b"), images=rng.integers(0, 256, (24, side, side, 3), np.uint8),
        targets=np.repeat(np.arange(2), 12),
    )  # fmt: skip
    heat_map = rng.normal(size=(7, 7)).astype(np.float32) if heat else None
    found = [
        Mistake(row=i, truth=0, predicted=1, probability=0.625, heat_map=heat_map, like_predicted=13, like_truth=2)
        for i in range(mistakes)
    ]
    return Report(title="t", support=support, notes=[], mistakes=found)


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_a_mistake_is_shown_with_its_heat_map_and_the_nearest_pictures() -> None:
    page = render(report(3))
    assert page.count('class="mistake"') == page.count("<figcaption>why<") == 3
    assert "<b>&lt;i&gt;a</b> taken for <b>b</b> (62 %)" in page
    assert page.count("nearest b<") == page.count("nearest &lt;i&gt;a<") == 3
    assert len(pictures(page)) == 24 + 3 * 4


def test_a_network_without_heat_maps_shows_the_nearest_pictures() -> None:
    page = render(report(1, heat=False))
    assert "<figcaption>why<" not in page
    assert "red speaks" not in page
    assert len(pictures(page)) == 24 + 3


def test_without_mistakes_nothing_is_said_about_them() -> None:
    assert "taken for another class</h2>" not in render(report(0))


def test_large_pictures_are_shown_small_so_that_the_page_is_small() -> None:
    page = render(report(8))
    assert max(max(image.size) for image in pictures(page)) == max(SIDE, THUMBNAIL)
    assert len(page) < 700_000  # noise, the worst that JPEG can meet
