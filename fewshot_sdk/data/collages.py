"""Made-up pictures of overlapping shapes: what pictures in general look like, and a piece pasted where it is not."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from fewshot_sdk.data.textures import drawn_texture, surface
from fewshot_sdk.images.preprocessing import Pixels

SHAPES, MOST_CORNERS = 400, 8


def collage(side: int, rng: np.random.Generator) -> Pixels:
    """A picture of shapes of all sizes that hide each other, with a texture over them: uint8 (side, side, 3).

    Source: Lee, Mumford and Huang 2001: the statistics of natural pictures are those of such "dead leaves".
    """
    colours, spread = rng.integers(0, 256, (int(rng.integers(2, 9)), 3)), rng.uniform(5, 50)
    image = Image.new("RGB", (side, side))
    pen = ImageDraw.Draw(image)
    for _ in range(SHAPES):
        radius = min(0.075 * side * (rng.pareto(1.5) + 0.03), 0.4 * side)
        x, y = rng.uniform(0, side, 2)
        ink = np.clip(colours[rng.integers(len(colours))] + spread * rng.normal(size=3), 0, 255)
        fill = (int(ink[0]), int(ink[1]), int(ink[2]))
        if rng.random() < 0.4:
            pen.ellipse((x - radius, y - radius * rng.uniform(0.3, 1), x + radius, y + radius), fill=fill)
        else:
            corners = int(rng.integers(3, MOST_CORNERS + 1))
            angles, radii = np.sort(rng.uniform(0, 2 * np.pi, corners)), radius * rng.uniform(0.5, 1.3, corners)
            across, down = x + radii * np.cos(angles), y + radii * np.sin(angles)
            pen.polygon(list(zip(across.tolist(), down.tolist(), strict=True)), fill=fill)
    rough = rng.uniform(0, 25) * surface(drawn_texture(rng), side, rng)
    whole: Pixels = np.clip(np.asarray(image) + rough[:, :, None], 0, 255).astype(np.uint8)
    return whole


def pasted(image: Pixels, rng: np.random.Generator) -> Pixels:
    """The image, (height, width, channels), with a piece of it turned, made lighter or darker, and put elsewhere.

    Source: Li et al. 2021 (CutPaste).
    """
    height, width, _ = image.shape
    side = max(2, int(rng.uniform(0.08, 0.2) * min(height, width)))
    (top, down), (left, right) = rng.integers(0, height - side + 1, 2), rng.integers(0, width - side + 1, 2)
    piece = np.rot90(image[top : top + side, left : left + side], int(rng.integers(1, 4)))
    changed = image.copy()
    changed[down : down + side, right : right + side] = np.clip(piece * rng.uniform(0.8, 1.2), 0, 255)
    return changed
