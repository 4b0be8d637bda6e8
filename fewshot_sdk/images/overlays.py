"""Heat maps laid over their pictures, for people: red speaks for the label, blue against it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.images.preprocessing import seen_box

FOR, AGAINST = np.array([214, 39, 24], np.float32), np.array([25, 90, 210], np.float32)
SIDE = 480  # pixels of the longer side of a picture that is shown
LEGEND = "red speaks for this label, blue against it"
_STRENGTH, _MARGIN, _LINE = 0.75, 12, 24


def overlay(
    image: Image.Image, heat: NDArray[np.float32], box: tuple[int, int, int, int] | None = None,
    most: float | None = None,
) -> Image.Image:  # fmt: skip
    """The picture in grey under its heat map, (h, w), in mode RGB; the strongest cell has the strongest colour.

    most: what has the strongest colour instead.
    box: the part that the network sees, see `seen_box`; the rest stays grey. None: all of it.
    """
    left, top, right, bottom = box or (0, 0, *image.size)
    most = float(np.abs(heat).max()) if most is None else most
    even = Image.fromarray((heat / most if most > 0 else np.zeros_like(heat)).astype(np.float32))
    whole = Image.new("F", image.size)
    whole.paste(even.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    strength = np.clip(np.asarray(whole), -1, 1)[..., None]
    grey = 0.65 * np.asarray(image.convert("L"), np.float32)[..., None] + 0.35 * 255
    share = _STRENGTH * np.abs(strength)
    colours = np.where(strength > 0, FOR, AGAINST)
    return Image.fromarray(np.rint((1 - share) * grey + share * colours).astype(np.uint8))


def explanation(
    image: Image.Image, heat: NDArray[np.float32], settings: Preprocessing, caption: str, *,
    most: float | None = None, legend: str = LEGEND,
) -> Image.Image:  # fmt: skip
    """The picture and, on its right, the picture under its heat map; below them the caption and a legend.

    most: see `overlay`.
    """
    factor = SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    shown = image.convert("RGB").resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    font = ImageFont.load_default(16)
    caption = caption.encode("latin-1", "replace").decode("latin-1")  # the font's characters
    lines = [*_wrapped(caption, font, max(2 * size[0], SIDE)), legend]
    width = 3 * _MARGIN + max(2 * size[0], SIDE)
    page = Image.new("RGB", (width, 2 * _MARGIN + size[1] + _LINE * len(lines)), "white")
    page.paste(shown, (_MARGIN, _MARGIN))
    page.paste(overlay(shown, heat, seen_box(size, settings), most), (2 * _MARGIN + size[0], _MARGIN))
    pen = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        ink = "black" if i < len(lines) - 1 else (90, 90, 90)
        pen.text((_MARGIN, _MARGIN + size[1] + 6 + _LINE * i), line, ink, font)
    return page


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text in at most three lines of this width, broken anywhere."""
    lines = [""]
    for letter in text:
        if lines[-1] and font.getlength(lines[-1] + letter) > width:
            lines.append("")
        lines[-1] += letter
    return lines if len(lines) <= 3 else [*lines[:2], lines[2][:-3] + "..."]
