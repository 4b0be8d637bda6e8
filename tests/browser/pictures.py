"""Pictures and the SDK's preprocessing of them, as JSON, for the browser to reproduce: random, or of all kinds."""

from __future__ import annotations

import base64
import io
import itertools
import json
import sys

import numpy as np
from PIL import Image

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.images.preprocessing import preprocess, read_image
from tests.images.kinds import KINDS

SIZES = ((280, 210), (61, 37), (30, 97), (28, 28), (9, 5))  # width, height
MODES = tuple(itertools.product(("box", "bilinear", "bicubic", "nearest"), ("pad", "crop", "stretch")))


def cases() -> list[dict[str, object]]:
    """Every resize filter with every fit, at several sizes, in grey and in colour."""
    rng = np.random.default_rng(0)
    pictures: list[dict[str, object]] = []
    for i, ((resize, fit), (width, height)) in enumerate(itertools.product(MODES, SIZES)):
        channels, sides = (1, (28, 28)) if i % 2 else (3, (20, 26))
        values = {"height": sides[0], "width": sides[1], "channels": channels, "resize": resize, "fit": fit}
        kept = 0.875 if fit != "pad" and i % 5 > 2 else 1.0
        settings = Preprocessing.model_validate(
            {
                **values,
                "kept": kept,
                "polarity": "dark_on_light" if i % 3 else "keep",
                "mean": [0.0] * channels,
                "std": [1.0] * channels,
            }
        )
        pixels = rng.integers(0, 256 if i % 4 else 120, (height, width, 3), np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        pictures.append(
            {
                "picture": base64.b64encode(data.getvalue()).decode(),
                "settings": settings.model_dump(mode="json"),
                "expected": preprocess(data.getvalue(), settings).ravel().tolist(),
            }
        )
    return pictures


def kinds() -> list[dict[str, object]]:
    """Every kind of picture that browsers read: the file, its network's pixels, and, of a small one, all its pixels."""
    settings = Preprocessing(height=24, width=20, channels=3, resize="bicubic", fit="crop", kept=0.875)
    pictures: list[dict[str, object]] = []
    for name, kind in KINDS.items():
        if kind.browser is not None:
            data = kind.data()
            image = read_image(data).convert("RGB")
            pictures.append(
                {
                    "name": name,
                    "levels": kind.browser,
                    "picture": base64.b64encode(data).decode(),
                    "settings": settings.model_dump(mode="json"),
                    "expected": preprocess(image, settings).ravel().tolist(),
                    "whole": np.asarray(image).ravel().tolist() if image.width < 100 else None,
                    "size": image.size,
                }
            )
    return pictures


if __name__ == "__main__":
    json.dump(kinds() if sys.argv[1:] == ["kinds"] else cases(), sys.stdout)
