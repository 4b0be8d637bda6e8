"""From pictures of any kind to the network's pixels: the preprocessing that everything shares."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fewshot_sdk.config.recipe import Preprocessing, Rows
from fewshot_sdk.errors import ImageError
from fewshot_sdk.images.decoding import MAX_BYTES, as_seen, decode
from fewshot_sdk.storage.files import read_bounded

MANY_PIXELS = 2**19
Pixels: TypeAlias = NDArray[np.uint8]
Row: TypeAlias = NDArray[np.float32] | NDArray[np.float64]  # for classifiers of rows of numbers
Picture: TypeAlias = str | Path | bytes | Image.Image | Pixels | Row

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def several(pictures: Sequence[Picture]) -> Sequence[Picture]:
    """The same pictures. Raises ImageError for a single one, whose letters or rows would be taken for pictures."""
    one = isinstance(pictures, np.ndarray) and (
        (pictures.ndim == 1 and pictures.dtype.kind in "biuf") or (pictures.ndim == 3 and pictures.shape[2] == 3)
    )
    if one or isinstance(pictures, str | bytes | Path | Image.Image):
        raise ImageError(
            "pictures: expected a list of pictures, or of rows, found a single one; put it in a list: [it]"
        )
    return pictures


def read_image(source: Picture) -> Image.Image:
    """The picture as a person sees it, in mode L or RGB: upright, transparency on white, 8 bits.

    source: a path, the bytes of a file, a Pillow image, or a uint8 array (height, width[, 1 or 3]).
    Raises ImageError, naming the file, if it cannot be read, or exceeds the limits of `decoding.decode`.
    """
    if isinstance(source, Image.Image):
        return as_seen(source, "the image")
    if isinstance(source, np.ndarray):
        return as_seen(_from_array(source), "the image")
    if isinstance(source, bytes):
        return decode(source, "the image")
    return decode(read_picture_file(Path(source)), str(source))


def read_picture_file(path: Path) -> bytes:
    """The bytes of a picture file. Raises ImageError if it is missing, unreadable or larger than 64 MiB."""
    with suppress(OSError):  # told below
        try:
            if stat.S_ISDIR(path.stat().st_mode):
                raise ImageError(f"{path} is a folder; name the pictures in it, such as {path / '*.jpg'}")
        except FileNotFoundError:
            quoted = "leave out quotes around *, which keep the shell from finding files"
            hint = quoted if "*" in path.name else "check its name"
            raise ImageError(f"{path}: there is no such file; {hint}") from None
    return read_bounded(path, MAX_BYTES, ImageError, "name a picture of at most 64 MiB that can be read")


def picture(source: Picture, settings: Preprocessing) -> Pixels:
    """The input of an exported graph, which does the rest of `preprocess`: uint8 (height, width, 3).

    See `stand_in` for a picture of more than half a megapixel. Raises ImageError as `read_image` does.
    """
    image = read_image(source)
    small = stand_in(image, settings) if image.width * image.height > MANY_PIXELS else None
    return np.asarray(image.convert("RGB")) if small is None else small


def preprocess(source: Picture, settings: Preprocessing) -> Pixels:
    """The network's pixels of a picture: uint8 (height, width, channels), from all pixels of the picture.

    Training, adaptation and every exported model use this function, or compute the same bits. For `Rows` the source is
    an array of as many numbers, and the result float32 (1, width, 1).
    Raises ImageError as `read_image` does.
    """
    if isinstance(settings, Rows):
        return _row(source, settings)
    return resize(read_image(source), settings)


def resize(image: Image.Image, settings: Preprocessing) -> Pixels:
    """The result of `preprocess` for a picture that has already been read."""
    mode = "L" if settings.channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    if settings.polarity == "dark_on_light" and np.asarray(image.convert("L")).mean() < 127.5:
        image = ImageOps.invert(image)
    size = (settings.width, settings.height)
    if settings.fit == "crop" or settings.kept < 1:
        image = image.crop(_middle(image.size, size if settings.fit == "crop" else image.size, settings.kept))
    elif settings.fit == "pad":
        image = _pad(image, size)
    if image.size != size:
        if settings.resize != "nearest":  # columns first: Pillow itself sometimes resizes the rows first
            image = image.resize((size[0], image.height), _FILTERS[settings.resize])
        image = image.resize(size, _FILTERS[settings.resize])
    return np.asarray(image, dtype=np.uint8).reshape(settings.height, settings.width, settings.channels)


def stand_in(image: Image.Image, settings: Preprocessing) -> Pixels | None:
    """A small picture with the same network's pixels as this one, uint8 (height, width, 3); None if none is known.

    A graph takes pictures of any size, but needs 8 bytes of memory for each colour of each pixel. The small picture
    holds the network's pixels where the graph looks for them, in the middle; web/assets/pixels.js does the same.
    """
    pixels = resize(image, settings)
    frame = _frame(settings)
    if frame is None:
        return None
    small = np.full((frame[1], frame[0], 3), 255, np.uint8)
    left, top, right, bottom = seen_box(frame, settings)
    small[top:bottom, left:right] = pixels
    # not so where the picture's mean is above one half, and that of the network's pixels below
    return small if np.array_equal(resize(Image.fromarray(small), settings), pixels) else None


@lru_cache
def _frame(settings: Preprocessing) -> tuple[int, int] | None:
    """Width and height of a picture of which `resize` keeps exactly as many pixels as the network has."""
    wanted = (settings.width, settings.height)
    sides = [[n for n in range(side, 10 * side + 1) if round(settings.kept * n) == side] for side in wanted]
    for size in product(*sides):
        left, top, right, bottom = seen_box((size[0], size[1]), settings)
        if (right - left, bottom - top) == wanted:
            return size[0], size[1]
    return None


def seen_box(size: tuple[int, int], settings: Preprocessing) -> tuple[int, int, int, int]:
    """The part of a picture of this width and height that the network sees, as left, top, right, bottom.

    Where white is added around it, the box is larger than the picture.
    """
    wanted = (settings.width, settings.height)
    if settings.fit == "crop" or settings.kept < 1:
        return _middle(size, wanted if settings.fit == "crop" else size, settings.kept)
    width, height = size if settings.fit == "stretch" else _padded(size, wanted)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    return -left, -top, width - left, height - top


def _row(source: Picture, settings: Rows) -> Pixels:
    row = np.asarray(source if isinstance(source, np.ndarray | list | tuple) else str(source)[:60])
    if row.dtype.kind not in "fiu" or row.size != settings.width:
        found = f"{row.dtype} {list(row.shape)}" if row.ndim else repr(str(row))
        raise ImageError(f"a row: expected {settings.width} numbers, found {found}; this classifier takes no pictures")
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = row.reshape(1, settings.width, 1).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ImageError("a row: expected finite numbers, found some that are not")
    return cast(Pixels, numbers)


def _from_array(array: NDArray[np.uint8] | Row) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or array.shape[2:] == (3,)):
        raise ImageError(
            "an image array: expected uint8 of shape (height, width), (height, width, 1) or "
            f"(height, width, 3), found {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(array)


def _middle(found: tuple[int, int], wanted: tuple[int, int], kept: float) -> tuple[int, int, int, int]:
    """The largest centred box of the wanted proportions, its sides times `kept`, as left, top, right, bottom."""
    width, height = found
    cut_width = max(1, round(kept * min(width, max(1, round(height * wanted[0] / wanted[1])))))
    cut_height = max(1, round(kept * min(height, max(1, round(width * wanted[1] / wanted[0])))))
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    return left, top, left + cut_width, top + cut_height


def _pad(image: Image.Image, wanted: tuple[int, int]) -> Image.Image:
    """The image on the smallest white canvas of the wanted proportions, centred."""
    (width, height), (full_width, full_height) = image.size, _padded(image.size, wanted)
    if (full_width, full_height) == (width, height):
        return image
    canvas = Image.new(image.mode, (full_width, full_height), "white")
    canvas.paste(image, ((full_width - width) // 2, (full_height - height) // 2))
    return canvas


def _padded(found: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the smallest canvas of the wanted proportions."""
    width, height = found
    return max(width, round(height * wanted[0] / wanted[1])), max(height, round(width * wanted[1] / wanted[0]))
