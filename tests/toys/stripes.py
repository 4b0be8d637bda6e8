"""What a new data set adds as data/NAME.py: the classes of one part; here, noisy stripes of one direction each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data.class_images import ClassImages, cached
from fewshot_sdk.images.preprocessing import Pixels


def read(root: Path | None, settings: Preprocessing, split: str, part: str) -> ClassImages:
    first = 0 if part == "train" else 8

    def make() -> dict[str, Pixels]:
        y, x = np.mgrid[: settings.height, : settings.width]
        rng = np.random.default_rng(first)
        shape = (6, settings.height, settings.width, settings.channels)
        waves = {i: np.sin(x * np.cos(i) + y * np.sin(i))[..., None] for i in range(first, first + 8)}
        return {
            f"stripes{i}": (100 + 80 * wave + rng.normal(0, 9, shape)).astype(np.uint8) for i, wave in waves.items()
        }

    return cached(f"stripes {split}, {part}, {settings.model_dump_json()}", make)
