from __future__ import annotations

import io
import sys

import pytest
from PIL import Image

from fewshot_sdk.config.records import Metric
from fewshot_sdk.errors import MissingExtra
from fewshot_sdk.storage.plots import curve


def metrics(n: int) -> list[Metric]:
    return [
        Metric(meta_steps=i, seconds=2.0 * i, loss=1 / i, accuracy=1 - 0.5 / i, ci95=0.02, tasks=200, ways=5)
        for i in range(1, n + 1)
    ]


def test_a_plot_is_a_picture_and_the_same_each_time() -> None:
    drawn = curve({"one": metrics(9), "two": metrics(5)})
    image = Image.open(io.BytesIO(drawn))
    assert (image.format, image.size) == ("PNG", (900, 360))
    assert len(image.getcolors(10**6) or []) > 50
    assert curve({"one": metrics(9), "two": metrics(5)}) == drawn
    text = curve({"one": metrics(9)}, "svg")
    assert b"<svg" in text
    assert curve({"one": metrics(9)}, "svg") == text


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"pip install 'fewshot-sdk\[figures\]'"):
        curve({"one": metrics(1)})
