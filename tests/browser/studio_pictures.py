"""Makes a folder of made-up photographs for the tests of the studio: `studio_pictures.py FOLDER CLASS...`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def main(folder: Path, names: list[str]) -> None:
    """Five pictures and a query, q.jpg, of each class: waves of its own colours and direction, and noise."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        colours, turn = rng.uniform(40, 215, (2, 3)), np.pi * k / len(names)
        for picture in (*(f"{i}.jpg" for i in range(5)), "q.jpg"):
            y, x = np.mgrid[:480, :640]
            phase, length = rng.uniform(0, 6), rng.uniform(40, 60)
            wave = np.sin((np.cos(turn) * x + np.sin(turn) * y) / length * 2 * np.pi + phase)[..., None]
            pixels = colours[0] * (1 + wave) / 2 + colours[1] * (1 - wave) / 2 + rng.normal(0, 12, (480, 640, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / picture, quality=92)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
