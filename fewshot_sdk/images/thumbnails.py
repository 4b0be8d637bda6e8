"""What the doctor compares of a picture: a thumbnail in colour, and how alike two of them are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot_sdk.images.preprocessing import Pixels

SIDE = 32
_BLOCK = 512  # rows compared at a time: the memory of 20,000 pictures stays under 300 MB


def thumbnail(image: Image.Image) -> Pixels:
    """The picture squeezed to uint8 (32, 32, 3)."""
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def is_grey(thumb: Pixels) -> bool:
    """Whether it shows no colour: red, green and blue within 6 of 255 everywhere.

    Of 1,600 photographs of mini-ImageNet's validation classes, 26 hold no colour and give 0 here;
    the others give 8 or more.
    """
    return int(np.ptp(thumb, axis=2).max()) <= 6


def is_blank(thumb: Pixels) -> bool:
    """Whether it is of one colour all over, within 3 of 255."""
    return int(np.ptp(thumb.reshape(-1, 3), axis=0).max()) <= 3


def likenesses(these: Sequence[Pixels], those: Sequence[Pixels]) -> Iterator[NDArray[np.float32]]:
    """Blocks of rows of the correlations (len(these), len(those)) of two lists of thumbnails.

    1 is the same picture but for brightness and contrast; a blank one is like nothing. O(n^2).
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
