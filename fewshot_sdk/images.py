"""From picture files to the network's pixels: safe decoding and the one preprocessing."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fewshot_sdk.config import Preprocessing
from fewshot_sdk.errors import ImageError
from fewshot_sdk.files import read_bounded

Pixels: TypeAlias = NDArray[np.uint8]
Picture: TypeAlias = str | Path | bytes | Image.Image | Pixels

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_BYTES = 64 * 2**20
MAX_SIDE = 16_384
MAX_PIXELS = 50_000_000

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def read_image(source: Picture) -> Image.Image:
    """The picture a person sees, in mode L or RGB: upright, transparency on white, 8 bits.

    `source` is a path, the bytes of a file, a Pillow image, or a uint8 array (height, width[, 3]).
    Raises ImageError, naming the file, if it is unreadable, truncated, of another format than
    JPEG, PNG, WebP, BMP, GIF or TIFF, or past 64 MiB, 16,384 pixels a side or 50 million in all;
    the limits are checked before any pixel is decoded.
    """
    if isinstance(source, Image.Image):
        return _as_seen(source)
    if isinstance(source, np.ndarray):
        return _as_seen(_from_array(source))
    name = "the image" if isinstance(source, bytes) else str(source)
    data = (
        source
        if isinstance(source, bytes)
        else read_bounded(Path(source), MAX_BYTES, ImageError, "name a smaller picture, or one that can be read")
    )
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); remove it or put the picture there again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning: our limit is lower
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(name, *image.size)
                return _as_seen(image)
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not a picture this program reads (JPEG, PNG, WebP, BMP, GIF, TIFF); convert or remove it"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has too many pixels; make it smaller than {MAX_PIXELS:,}") from None
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything from OSError to struct.error on bad files
        reason = str(error) or type(error).__name__
        raise ImageError(f"{name} cannot be decoded ({reason}); save it again or remove it") from None


def preprocess(source: Picture, settings: Preprocessing) -> Pixels:
    """The pixels the network sees of a picture: uint8, (height, width, channels).

    The same function serves training, adaptation and every exported model.
    Raises ImageError as `read_image` does.
    """
    image = read_image(source).convert("L" if settings.channels == 1 else "RGB")
    if settings.polarity == "dark_on_light" and np.asarray(image.convert("L")).mean() < 127.5:
        image = ImageOps.invert(image)
    size = (settings.width, settings.height)
    if settings.fit == "crop":
        image = image.crop(_middle(image.size, size))
    elif settings.fit == "pad":
        image = _pad(image, size)
    if image.size != size:
        image = image.resize(size, _FILTERS[settings.resize])
    return np.asarray(image, dtype=np.uint8).reshape(settings.height, settings.width, settings.channels)


def _check_size(name: str, width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width} x {height} pixels; at most {MAX_SIDE:,} a side and "
            f"{MAX_PIXELS:,} in all are read, so save a smaller copy"
        )


def _from_array(array: Pixels) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or array.shape[2:] == (3,)):
        raise ImageError(
            "an image array: expected uint8 of shape (height, width), (height, width, 1) or "
            f"(height, width, 3), found {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(array)


def _as_seen(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion turns them white
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")


def _middle(found: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centred box of the wanted proportions, as left, top, right, bottom."""
    width, height = found
    cut_width = min(width, max(1, round(height * wanted[0] / wanted[1])))
    cut_height = min(height, max(1, round(width * wanted[1] / wanted[0])))
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    return left, top, left + cut_width, top + cut_height


def _pad(image: Image.Image, wanted: tuple[int, int]) -> Image.Image:
    """The image on the smallest white canvas of the wanted proportions, centred."""
    width, height = image.size
    full_width = max(width, round(height * wanted[0] / wanted[1]))
    full_height = max(height, round(width * wanted[1] / wanted[0]))
    if (full_width, full_height) == (width, height):
        return image
    canvas = Image.new(image.mode, (full_width, full_height), "white")
    canvas.paste(image, ((full_width - width) // 2, (full_height - height) // 2))
    return canvas
