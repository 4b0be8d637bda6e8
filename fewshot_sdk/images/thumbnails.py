"""The thumbnails that the doctor compares, and how similar two of them are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot_sdk.images.preprocessing import Pixels

SIDE, _ENOUGH = 32, 512
_BLOCK = 512  # rows compared at a time: the memory of 20,000 pictures stays under 300 MB


def thumbnail(image: Image.Image) -> Pixels:
    """The picture squeezed to 32 x 32 pixels: uint8 (32, 32, 3)."""
    if (factor := min(image.size) // _ENOUGH) > 1:  # averaged first, which is several times as fast
        image = image.reduce(factor)
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def is_grey(thumb: Pixels) -> bool:
    """Whether the thumbnail has no colour: red, green and blue differ by 6 of 255 at most everywhere.

    Of 1,600 photographs of mini-ImageNet's validation classes 26 are grey and differ by 0;
    the others differ by 8 or more.
    """
    return int(np.ptp(thumb, axis=2).max()) <= 6


def is_blank(thumb: Pixels) -> bool:
    """Whether the thumbnail is a single colour: each channel varies by 3 of 255 at most."""
    return int(np.ptp(thumb.reshape(-1, 3), axis=0).max()) <= 3


def likenesses(these: Sequence[Pixels], those: Sequence[Pixels]) -> Iterator[NDArray[np.float32]]:
    """The correlations between two lists of thumbnails, (len(these), len(those)), in blocks of rows.

    1: the same picture up to brightness and contrast; a blank one has correlation 0 with everything. O(n^2).
    """
    left, right = _standard(these), _standard(those)
    for first in range(0, len(left), _BLOCK):
        yield left[first : first + _BLOCK] @ right.T


def _standard(thumbs: Sequence[Pixels]) -> NDArray[np.float32]:
    rows = np.stack(thumbs).reshape(len(thumbs), -1).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 1e-3, lengths, np.inf)
    return rows
