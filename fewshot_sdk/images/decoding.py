"""From the bytes of a picture file to the picture a person sees: an allow-list of formats, within limits.

A bundle holds a copy of this file for its predict.py, so it imports nothing else of ours but the error.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
import shlex
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from fewshot_sdk.errors import ImageError

_AVIF = "avif" in features.modules and features.check("avif")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", *(["AVIF"] if _AVIF else []))
MAX_BYTES = 64 * 2**20
MAX_SIDE = 16_384
MAX_PIXELS = 50_000_000
# A blank 1-bit PNG reaches 8,000; a drawing scanned at 600 dpi stays under 2,000. Small pictures are cheap anyway.
MAX_PIXELS_PER_BYTE, _SMALL = 4096, 4_000_000

# Pillow also logs some damage; without a handler that would be printed to the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_STRIP = 1_000_000  # pixels
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF's tags, and a value
_READ = "JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF, TIFF"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")  # raw photographs begin as TIFF does


def decode(data: bytes, name: str) -> Image.Image:
    """The picture in the bytes of a file, in mode L or RGB: upright, transparency on white, 8 bits; the first frame.

    HEIC needs pillow-heif, AVIF a Pillow that was built with it, as those on PyPI are.
    Raises ImageError, starting with `name`, if the picture is unreadable, truncated, of another format than
    JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF or TIFF, or exceeds 64 MiB, 16,384 pixels a side, 50 million pixels in
    total, or, above 4 million pixels, 4,096 pixels for each byte of the file; the limits are checked before any
    pixel is decoded.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); remove it or copy the picture there again")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES / 2**20:.3g} MiB; save a smaller copy")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's decompression bomb warning: our limit is lower
            with _opened(data, name) as image:
                check_size(name, *image.size)
                _check_density(name, *image.size, len(data))
                return _as_seen(image)
    except UnidentifiedImageError:
        if data.startswith(_BEGINNINGS) or data[8:12] == b"WEBP" or (_AVIF and data[8:12] in _AVIF_BRANDS):
            raise _undecodable(name, ValueError("its header is damaged")) from None
        raise ImageError(f"{name} is not a picture this program reads ({_READ}); convert or remove it") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has too many pixels; save a copy with fewer than {MAX_PIXELS:,}") from None
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything from OSError to struct.error on damaged files
        raise _undecodable(name, error) from None


def as_seen(image: Image.Image, name: str) -> Image.Image:
    """The result of `decode` for an image that is open, of any format; the same object, loaded, if nothing changes.

    Raises ImageError, starting with `name`, if its pixels cannot be decoded or it exceeds the limits of sides and
    pixels.
    """
    check_size(name, *image.size)
    try:
        return _as_seen(image)
    except Exception as error:
        raise _undecodable(name, error) from None


def check_size(name: str, width: int, height: int) -> None:
    """Raises ImageError, starting with `name`, above 16,384 pixels a side or 50 million in total."""
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width} x {height} pixels; at most {MAX_SIDE:,} a side and "
            f"{MAX_PIXELS:,} in total are read, so save a smaller copy"
        )


def _opened(data: bytes, name: str) -> Image.Image:
    """The picture, whose header has been read, but no pixel."""
    box = data[: min(512, int.from_bytes(data[:4]))] if data[4:8] == b"ftyp" else b""
    brands = {box[8:12], *(box[i : i + 4] for i in range(16, len(box), 4))}
    if brands & _AVIF_BRANDS:
        if "AVIF" not in FORMATS:
            raise _unread(name, "an AVIF", "install a Pillow that reads it (those on PyPI do)")
    elif brands & _HEIC_BRANDS:
        try:
            from pillow_heif import HeifImageFile
        except ImportError:
            raise _unread(name, "a HEIC", "install pillow-heif (`pip install 'fewshot-sdk[heic]'`)") from None
        try:
            return cast("Image.Image", HeifImageFile(io.BytesIO(data)))
        except SyntaxError as error:  # which Image.open would turn into its own
            raise OSError(str(error)) from None
    return Image.open(io.BytesIO(data), formats=FORMATS)


@cache
def _quiet_libtiff() -> None:
    """Take away the handler by which libtiff, in all of this process, prints what is wrong with a file on stderr.

    Pillow raises an error of its own for what cannot be decoded. A library, or Pillow's for Windows, that has libtiff
    inside it keeps its handler.
    """
    with suppress(AttributeError, OSError):
        libraries = ctypes.CDLL(vars(Image)["core"].__file__)  # finds the functions of what it is linked with, too
        for change in (libraries.TIFFSetErrorHandler, libraries.TIFFSetWarningHandler):
            change.argtypes, change.restype = (ctypes.c_void_p,), ctypes.c_void_p
            change(None)


def _unread(name: str, kind: str, remedy: str) -> ImageError:
    command = f"magick {shlex.quote(_file_of(name))} photo.jpg"
    return ImageError(f"{name} is {kind} picture; {remedy}, or convert it, for example with `{command}`")


def _undecodable(name: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"{name} cannot be decoded ({reason}); save it again or remove it")


def _file_of(name: str) -> str:
    """The file name in a name shown to a person: without its folders and the table row that it came from."""
    return re.sub(r" \([^()]*, row \d+\)$", "", name).rpartition("/")[2]


def _as_seen(image: Image.Image) -> Image.Image:
    if image.format == "TIFF":
        _quiet_libtiff()
    tagged = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC)
    depth = max(getattr(image, "tag_v2", {}).get(_BITS, (8,)))
    image = _upright(image)
    if image.mode == "F" or (image.mode == "I" and depth > 16):
        raise ValueError("its pixels are numbers of more than 16 bits, without a defined black and white")
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion turns them white
        image = _by_strips(image, "L", lambda strip: _eight_bits(strip, tagged == _WHITE_IS_ZERO))
    if image.has_transparency_data:
        image = _by_strips(image, "RGB", _on_white)
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _upright(image: Image.Image) -> Image.Image:
    """The picture as its EXIF says; web/assets/pictures.js does the same."""
    image.load()
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # a damaged EXIF block does not affect the pixels; viewers show them as they are
        return image
    return ImageOps.exif_transpose(image) if turned else image  # exif_transpose always copies the picture


def _by_strips(image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The picture of this mode whose strips `change` makes; one after another, as what it needs takes memory."""
    whole = Image.new(mode, image.size)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole.paste(change(strip), (0, top))
    return whole


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _eight_bits(image: Image.Image, white_is_zero: bool) -> Image.Image:
    wide = np.asarray(image).clip(0, 65535).astype(np.uint16)
    if white_is_zero:  # Pillow inverts these at 8 bits, but not at 16
        wide = 65535 - wide
    narrow = (wide >> 8).astype(np.uint8)  # as in colours of 16 bits, and in browsers
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # the one grey level of a PNG that is transparent
        narrow = np.where(wide == transparent, np.uint8(255), narrow)
    return Image.fromarray(narrow)


def _check_density(name: str, width: int, height: int, n_bytes: int) -> None:
    if width * height > max(_SMALL, MAX_PIXELS_PER_BYTE * n_bytes):
        raise ImageError(
            f"{name} claims to be {width} x {height} pixels in {n_bytes:,} bytes, which only a blank or forged "
            "picture can be; save it again or remove it"
        )
