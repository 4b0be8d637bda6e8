"""Glyphs: an endless supply of invented characters, drawn stroke by stroke. Nothing to download.

A character is two to four strokes, each a smooth curve through a few points. Every drawer has an individual
hand: a different slant, size and position, a thicker or thinner pen, unsteady points.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data.class_images import ClassImages, cached
from fewshot_sdk.images.preprocessing import Pixels, preprocess

SIDE = 105  # pixels, as in Omniglot
GLYPH_CLASSES, GLYPH_DRAWERS = 600, 20
_LAYOUT = 1  # increase when the drawings for the same seed change

Stroke = NDArray[np.float64]  # (n_points, 2), x and y from 0 to 1


def glyph(seed: int, index: int) -> list[Stroke]:
    """Character number `index` of alphabet `seed`: the points of each stroke."""
    rng = np.random.default_rng((seed, index))
    strokes = []
    for _ in range(rng.integers(2, 5)):
        points = rng.uniform(0.12, 0.88, (rng.integers(2, 5), 2))
        strokes.append(points)
    return strokes


def draw(strokes: list[Stroke], rng: Generator, side: int = SIDE) -> Image.Image:
    """One drawer's version of a character: dark ink on white, mode L, `side` x `side` pixels."""
    turn, slant = rng.normal(0, 0.10), rng.normal(0, 0.10)
    scale = rng.uniform(0.80, 1.08, 2)
    hand = np.array([[np.cos(turn), slant - np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * scale
    place = 0.5 + rng.normal(0, 0.03, 2)
    width = round(int(rng.integers(2, 5)) * side / SIDE)
    image = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        unsteady = stroke + rng.normal(0, 0.025, stroke.shape)
        line = (smooth((unsteady - 0.5) @ hand.T + place) * side).tolist()
        pen.line([tuple(point) for point in line], fill=0, width=width, joint="curve")
    return image


def smooth(points: Stroke, steps: int = 8) -> Stroke:
    """A Catmull-Rom curve through the points, with `steps` pieces between two of them."""
    p = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    before, left, right, after = p[:-3], p[1:-2], p[2:-1], p[3:]
    curve = 0.5 * (
        2 * left
        + (right - before) * t
        + (2 * before - 5 * left + 4 * right - after) * t**2
        + (3 * (left - right) + after - before) * t**3
    )
    return np.concatenate([curve.transpose(1, 0, 2).reshape(-1, 2), points[-1:]])


def read(root: Path | None, settings: Preprocessing, split: str, part: str) -> ClassImages:  # noqa: ARG001
    """The classes of one part: `train`, or other characters for `test`. There is one split, and no files."""
    return glyphs(GLYPH_CLASSES, GLYPH_DRAWERS, settings, first=0 if part == "train" else GLYPH_CLASSES)


def glyphs(n_classes: int, n_drawers: int, settings: Preprocessing, seed: int = 0, first: int = 0) -> ClassImages:
    """Characters `first` to `first + n_classes - 1`, each by `n_drawers` drawers, preprocessed.

    A pure function of its arguments; drawn on first use (0.2 ms a drawing) and kept in the cache.
    """

    def make() -> dict[str, Pixels]:
        return {
            f"glyph{index}": np.stack(
                [
                    preprocess(draw(glyph(seed, index), np.random.default_rng((seed, index, drawer))), settings)
                    for drawer in range(n_drawers)
                ]
            )
            for index in range(first, first + n_classes)
        }

    made_of = f"layout {_LAYOUT}, {n_classes} classes from {first}, {n_drawers} drawers, seed {seed}"
    return cached(f"glyphs {made_of}, {settings.model_dump_json()}", make)
