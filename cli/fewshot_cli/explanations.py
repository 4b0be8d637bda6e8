"""The pictures that `fewshot predict --explain` writes."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_sdk.storage.files import write_files

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.classifier import Classifier
    from fewshot_sdk.runtime.predictions import Prediction
    from fewshot_sdk.runtime.predictor import Predictor

AT_ONCE = 16


def explain(
    model: Classifier | Predictor, images: Sequence[Path], predictions: Sequence[Prediction], folder: Path
) -> list[Path]:
    """Write each picture beside its heat map into a new folder, all or none; the files, in order."""
    names = file_names(images)

    def drawn() -> Iterator[tuple[str, bytes]]:
        from fewshot_sdk.images.overlays import explanation
        from fewshot_sdk.images.preprocessing import read_image

        for first in range(0, len(images), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            maps = model.explain(images[part])
            for image, name, found, heat in zip(images[part], names[part], predictions[part], maps, strict=True):
                data, caption = io.BytesIO(), f"{found.nearest}  {found.probability:.1%}"
                if found.label is None:
                    caption = f"unknown (nearest: {caption})"
                explanation(read_image(image), heat, model.preprocessing, caption).save(data, format="PNG")
                yield name, data.getvalue()

    write_files(folder, drawn())
    return [folder / name for name in names]


def file_names(images: Sequence[Path]) -> list[str]:
    """A plain file name for each picture, after its own, or its folder's too where those are alike; all different."""
    often = Counter(image.stem.casefold() for image in images)
    taken: set[str] = set()
    found = []
    for image in images:
        alike = often[image.stem.casefold()] > 1
        stem = re.sub(r"[^\w-]+", "_", f"{image.parent.name}_{image.stem}" if alike else image.stem).strip("_")[:60]
        name, number = stem or "picture", 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem or 'picture'}-{number}"
        taken.add(name.casefold())
        found.append(f"{name}.png")
    return found
