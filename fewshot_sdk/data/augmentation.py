"""Random augmentation of images, for supervised pre-training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def photographed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images randomly cropped, mirrored and recoloured: uint8 (n, h, w, c) -> float (n, c, h, w) from 0 to 1.

    A crop of 35 to 100 % of the area and of proportions 3:4 to 4:3 is scaled to full size; half of the images are
    mirrored, at random; brightness, contrast and saturation change by up to 40 %.
    Source: the usual augmentation of ImageNet, Szegedy et al. 2015; Howard 2013.
    """
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n).uniform_(low, high, generator=generator)

    area, ratio = uniform(0.35, 1), torch.exp(uniform(-0.2877, 0.2877))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    x, y = (1 - width) * uniform(-1, 1), (1 - height) * uniform(-1, 1)
    zero = torch.zeros(n)
    transform = torch.stack([torch.stack([width * mirror, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
    pixels = images.permute(0, 3, 1, 2).float() / 255
    grid = F.affine_grid(transform, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def each(strength: float) -> Tensor:
        return uniform(1 - strength, 1 + strength).view(n, 1, 1, 1)

    pixels = pixels * each(0.4)
    pixels = pixels.mean((1, 2, 3), keepdim=True).lerp(pixels, each(0.4))
    pixels = pixels.mean(1, keepdim=True).lerp(pixels, each(0.4))
    return pixels.clamp(0, 1)


def redrawn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Drawings as by another hand, at random: uint8 (n, h, w, c) -> float (n, c, h, w) from 0 to 1.

    Rotated by up to 8 degrees, sheared and scaled by up to 10 % and moved by up to a tenth of half a side. What enters
    from beyond the edge is white paper.
    """
    n = len(images)

    def uniform(limit: float) -> Tensor:
        return torch.empty(n).uniform_(-limit, limit, generator=generator)

    angle, scale, shear, right, down = (uniform(limit) for limit in (0.14, 0.1, 0.1, 0.1, 0.1))
    cos, sin = torch.cos(angle) * scale.exp(), torch.sin(angle) * scale.exp()
    transform = torch.stack([torch.stack([cos, shear - sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
    ink = images.permute(0, 3, 1, 2).float() / 255 - 1  # paper is 0, like the padding
    grid = F.affine_grid(transform, list(ink.shape), align_corners=False)
    return F.grid_sample(ink, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + 1
