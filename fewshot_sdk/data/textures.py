"""Made-up grey textures: a class is a way to draw, an image one drawing by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.images.preprocessing import Pixels

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Texture:
    """A class of textures, with a spectrum of one of five kinds; see `surface`."""

    kind: int
    slope: float
    angle: float
    stretch: float
    frequency: float
    spread: float
    spots: int
    spot_size: float
    level: float
    contrast: float
    threshold: float


def drawn_texture(rng: np.random.Generator, kind: int | None = None) -> Texture:
    """A class drawn at random, of one kind from 0 to 4 or of any."""
    return Texture(
        kind=int(rng.integers(5)) if kind is None else kind,
        slope=rng.uniform(0.5, 3),
        angle=rng.uniform(0, np.pi),
        stretch=rng.uniform(1, 8),
        frequency=rng.uniform(4, 40),
        spread=rng.uniform(0.02, 0.4),
        spots=int(rng.integers(10, 200)),
        spot_size=rng.uniform(2, 14),
        level=rng.uniform(80, 180),
        contrast=rng.uniform(20, 70),
        threshold=rng.uniform(-1.2, 1.2),
    )


def textured(texture: Texture, side: int, rng: np.random.Generator) -> Pixels:
    """One image of the class: uint8 (side, side, 3), grey."""
    level, contrast = texture.level + 15 * rng.normal(), texture.contrast * rng.uniform(0.7, 1.3)
    grey = np.clip(level + contrast * surface(texture, side, rng), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def surface(texture: Texture, side: int, rng: np.random.Generator) -> Floats:
    """Heights about 0, (side, side): noise with a spectrum that differs from kind to kind.

    0: a power law, as of clouds; 1: a ring, as of grains of one size; 2: a peak, as of stripes; 3: a power law cut at a
    height, as of scales; 4: a power law with light and dark spots. Kinds 0 to 2 have mean 0 and deviation 1; 3 is
    within -1 and 1.
    Source: Galerne, Gousseau and Morel 2011: a texture as noise of a given spectrum.
    """
    angle = texture.angle + 0.05 * rng.normal()
    down, right = np.fft.fftfreq(side)[:, None] * side, np.fft.rfftfreq(side)[None] * side
    along = right * np.cos(angle) + down * np.sin(angle)
    across = down * np.cos(angle) - right * np.sin(angle)
    radius = np.hypot(along * texture.stretch, across) + 1
    width = texture.spread * texture.frequency
    if texture.kind == 1:
        amplitude = np.exp(-(((radius - texture.frequency) / (width + 1)) ** 2))
    elif texture.kind == 2:
        amplitude = np.exp(-((along - texture.frequency) ** 2 + across**2) / (2 * (width + 0.7) ** 2))
    else:
        amplitude = radius ** -(texture.slope if texture.kind == 0 else 0.7 * texture.slope + 0.6)
    heights = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)), s=(side, side))
    heights = (heights - heights.mean()) / (heights.std() + 1e-9)
    if texture.kind == 3:
        heights = np.tanh(8 * (heights - texture.threshold))
    if texture.kind == 4:
        points = np.zeros((side, side))
        rows, columns = rng.integers(0, side, (2, texture.spots))
        points[rows, columns] = rng.choice([-1.0, 1.0], texture.spots)
        blur = np.exp(-(along**2 * texture.stretch + across**2) * (3 * texture.spot_size / side) ** 2 / 2)
        spots = np.fft.irfft2(np.fft.rfft2(points) * blur, s=(side, side))
        heights = 0.3 * heights + 3 * spots / (np.abs(spots).max() + 1e-9)
    found: Floats = heights
    return found
