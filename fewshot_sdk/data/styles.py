"""Styles: a photograph as if it had been taken, printed or drawn in another way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from fewshot_sdk.images.preprocessing import Pixels


def _grey(image: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001
    return image.convert("L")


def _lines(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Edges in dark lines on white paper."""
    smooth = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(rng.uniform(1, 2.5))), np.float32)
    slopes = np.abs(np.diff(smooth, axis=1, prepend=smooth[:, :1])) + np.abs(
        np.diff(smooth, axis=0, prepend=smooth[:1])
    )
    ink = np.clip(1.3 * slopes / (np.percentile(slopes, 97) + 1e-6) - 0.15, 0, 1)
    return Image.fromarray((255 * (1 - ink)).astype(np.uint8))


def _negative(image: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001
    return ImageOps.invert(image.convert("L"))


def _coarse(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(rng.integers(24, 64))
    return image.resize((side, side), Image.Resampling.BOX)


def _coarse_grey(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(rng.integers(24, 48))
    return image.convert("L").resize((side, side), Image.Resampling.BOX)


def _two_tones(image: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001
    smooth = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(2)))
    return Image.fromarray(np.where(smooth > np.median(smooth), np.uint8(255), np.uint8(0)))


Style = Callable[[Image.Image, np.random.Generator], Image.Image]
STYLES: dict[str, Style] = {
    "colour": lambda image, _: image,
    "grey": _grey,
    "lines": _lines,
    "negative": _negative,
    "coarse": _coarse,
    "coarse grey": _coarse_grey,
    "two tones": _two_tones,
}
_LIT = ("colour", "grey", "coarse")  # styles in which the light changes from picture to picture


def styled(image: Pixels, style: str, rng: np.random.Generator) -> Pixels:
    """A photograph, uint8 (side, side, 3), in a style of `STYLES`, with a random crop and mirroring.

    The crop has 60 to 100 % of the area; half of the pictures are mirrored, at random; in colour, grey or coarse, six
    in ten change in brightness, contrast and, but for grey, in colour.
    """
    side = len(image)
    crop = int(side * rng.uniform(0.6, 1) ** 0.5)
    top, left = rng.integers(0, side - crop + 1, 2)
    picture = Image.fromarray(image[top : top + crop, left : left + crop])
    if rng.random() < 0.5:
        picture = ImageOps.mirror(picture)
    picture = STYLES[style](picture, rng).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    if style in _LIT and rng.random() < 0.6:
        pixels = (np.asarray(picture, np.float32) - 128) * rng.uniform(0.6, 1.4) + 128 + rng.uniform(-30, 30)
        if style != "grey":
            pixels *= rng.uniform(0.8, 1.2, 3)
        lit: Pixels = np.clip(pixels, 0, 255).astype(np.uint8)
        return lit
    return np.asarray(picture)
