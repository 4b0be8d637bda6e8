"""Tasks from several domains: photographs in one style, drawings, or made-up textures, one domain a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.styles import STYLES, styled
from fewshot_sdk.data.tasks import Task
from fewshot_sdk.data.textures import drawn_texture, textured
from fewshot_sdk.errors import DataError
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.images.support import read_support
from fewshot_sdk.storage.files import sha256

SHARES = {
    "colour": 0.20,
    "grey": 0.07,
    "lines": 0.08,
    "negative": 0.025,
    "coarse": 0.05,
    "coarse grey": 0.05,
    "two tones": 0.025,
    "drawings": 0.25,
    "textures": 0.25,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainTasks:
    """Tasks for meta-training a network on many kinds of pictures; task i is a pure function of (seed, i).

    photographs: classes of colour images, square, of the network's size. drawings: classes of grey images of any size,
    dark on light, which are scaled, turned by a few degrees and, three times in ten, inverted.
    shares: of the tasks, by domain: a style of `styles.STYLES` for photographs, `drawings` or `textures`.
    Each task has k_shot images of n_way classes, grouped by class. Raises DataError for too few classes or images, and
    for domains that do not exist.
    """

    photographs: ClassImages
    drawings: ClassImages
    n_way: int
    k_shot: int
    seed: int = 0
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))

    def __post_init__(self) -> None:
        for data in (self.photographs, self.drawings):
            fewest = min(data.n_images(c) for c in range(data.n_classes))
            if data.n_classes < self.n_way or fewest < self.k_shot:
                raise DataError(
                    f"{data.name}: expected {self.n_way} classes of {self.k_shot} images, found {data.n_classes} "
                    f"of at least {fewest}"
                )
        unknown = self.shares.keys() - {*STYLES, "drawings", "textures"}
        if unknown or not self.shares or min(self.shares.values()) <= 0:
            raise DataError(
                f"shares: expected numbers above 0 for some of {', '.join(STYLES)}, drawings and textures, found "
                f"{self.shares}"
            )
        height, width, channels = self.photographs.images.shape[1:]
        if height != width or channels != 3:
            raise DataError(f"photographs: expected square images in colour, found {height} x {width} x {channels}")

    @property
    def digest(self) -> str:
        """SHA-256 of everything that determines the tasks but their number."""
        made_of = (self.photographs.digest, self.drawings.digest, self.shares, self.n_way, self.k_shot, self.seed)
        return sha256(repr(made_of).encode())

    def task(self, index: int) -> Task:
        """Task number `index` of the endless sequence."""
        rng = np.random.default_rng((self.seed, index))
        domains, shares = zip(*self.shares.items(), strict=True)
        domain = str(rng.choice(domains, p=np.divide(shares, sum(shares))))
        if domain == "textures":
            images = self._textures(rng)
        elif domain == "drawings":
            images = self._images(self.drawings, partial(self._redrawn, inverted=rng.random() < 0.3, rng=rng), rng)
        else:
            images = self._images(self.photographs, partial(styled, style=domain, rng=rng), rng)
        labels = torch.arange(self.n_way).repeat_interleave(self.k_shot)
        empty = torch.empty(0, *images.shape[1:], dtype=torch.uint8)
        return Task(
            n_way=self.n_way,
            support=torch.from_numpy(images),
            support_labels=labels,
            query=empty,
            query_labels=torch.empty(0, dtype=torch.int64),
            seed=(self.seed, index),
        )

    def _images(
        self, data: ClassImages, changed: Callable[[Pixels], Pixels], rng: np.random.Generator
    ) -> Pixels:  # fmt: skip
        found = []
        for class_index in rng.choice(data.n_classes, self.n_way, replace=False):
            drawn = rng.choice(data.n_images(int(class_index)), self.k_shot, replace=False)
            found += [changed(image) for image in data.take(int(class_index), drawn)]
        return np.stack(found)

    def _redrawn(self, image: Pixels, inverted: bool, rng: np.random.Generator) -> Pixels:
        grey = 255 - image[:, :, 0] if inverted else image[:, :, 0]
        side = self.photographs.images.shape[1]
        turned = Image.fromarray(grey).rotate(5 * rng.normal(), fillcolor=int(grey[0, 0]))
        return np.asarray(turned.resize((side, side), Image.Resampling.BICUBIC).convert("RGB"))

    def _textures(self, rng: np.random.Generator) -> Pixels:
        """In half of the classes the kind is the task's: these differ in their numbers only."""
        kind, side = int(rng.integers(5)), self.photographs.images.shape[1]
        classes = [drawn_texture(rng, kind if rng.random() < 0.5 else None) for _ in range(self.n_way)]
        return np.stack([textured(each, side, rng) for each in classes for _ in range(self.k_shot)])


def photographs(source: str | Path, settings: Preprocessing) -> ClassImages:
    """The pictures of a folder, zip or CSV of classes, preprocessed. Raises SupportError as `read_support` does."""
    found = read_support(source, settings)
    rows = tuple(np.flatnonzero(found.targets == label) for label in range(len(found.labels)))
    digest = sha256(found.images.tobytes() + found.targets.tobytes())
    return ClassImages(images=found.images, rows=rows, names=found.labels, source=f"photographs {digest}")
