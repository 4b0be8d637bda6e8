"""From the bytes of a picture file to the picture a person sees: an allow-list of formats, within limits."""

from __future__ import annotations

import io
import logging
import re
import shlex
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fewshot_sdk.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_BYTES = 64 * 2**20
MAX_SIDE = 16_384
MAX_PIXELS = 50_000_000
# A blank 1-bit PNG reaches 8,000; a drawing scanned at 600 dpi stays under 2,000. Small pictures are cheap anyway.
MAX_PIXELS_PER_BYTE, _SMALL = 4096, 4_000_000

# Pillow also logs some damage; without a handler that would be printed to the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF's tags, and a value
_READ = "JPEG, PNG, WebP, BMP, GIF, TIFF"
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A picture in mode L or RGB, upright, and its full size (width, height) according to its header."""

    image: Image.Image
    size: tuple[int, int]


def decode(
    data: bytes, name: str, at_least: int | None = None, before: dict[tuple[int, int], Decoded] | None = None
) -> Decoded:
    """The picture in the bytes of a file: upright, transparency on white, 8 bits; the first frame of a GIF.

    at_least: a JPEG may be decoded at a half, a quarter or an eighth of its size, which is several times
    as fast and takes less memory, as long as no side has fewer than `at_least` pixels; None: at full size.
    before: a cache of what was decoded from the same bytes, by size; read and added to.
    Raises ImageError, starting with `name`, if the picture is unreadable, truncated, of another format than
    JPEG, PNG, WebP, BMP, GIF or TIFF, or exceeds 64 MiB, 16,384 pixels a side, 50 million pixels in total, or,
    above 4 million pixels, 4,096 pixels for each byte of the file; the limits are checked before any
    pixel is decoded.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); remove it or copy the picture there again")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES / 2**20:.3g} MiB; save a smaller copy")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        raise ImageError(
            f"{name} is a HEIC or AVIF picture, which cannot be read; convert it to JPEG, for example with "
            f"`magick {shlex.quote(_file_of(name))} photo.jpg`, or by sharing it from the phone as 'most compatible'"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's decompression bomb warning: our limit is lower
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(name, *image.size, len(data))
                whole = image.size
                if at_least is not None and image.format in ("JPEG", "MPO"):  # MPO: a phone's JPEG plus more pictures
                    image.draft(None, (at_least, at_least))
                drafted = image.size
                if before is not None and drafted in before:
                    return before[drafted]
                upright = as_seen(image)
                # EXIF may turn the picture by 90 degrees, and so its size: the sides show it, except for a square.
                turned = (upright.width > upright.height) != (whole[0] > whole[1])
                found = Decoded(image=upright, size=whole[::-1] if turned else whole)
                if before is not None:
                    before[drafted] = found
                return found
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not a picture this program reads ({_READ}); convert or remove it") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has too many pixels; save a copy with fewer than {MAX_PIXELS:,}") from None
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything from OSError to struct.error on damaged files
        reason = str(error) or type(error).__name__
        raise ImageError(f"{name} cannot be decoded ({reason}); save it again or remove it") from None


def _file_of(name: str) -> str:
    """The file name in a name shown to a person: without its folders and the table row that it came from."""
    return re.sub(r" \([^()]*, row \d+\)$", "", name).rpartition("/")[2]


def as_seen(image: Image.Image) -> Image.Image:
    """The image upright, in 8 bits, on white, in mode L or RGB; the same object, loaded, if it already is."""
    tagged = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC)
    depth = max(getattr(image, "tag_v2", {}).get(_BITS, (8,)))
    image = _upright(image)
    if image.mode == "F" or (image.mode == "I" and depth > 16):
        raise ValueError("its pixels are numbers of more than 16 bits, without a defined black and white")
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion turns them white
        image = _eight_bits(image, tagged == _WHITE_IS_ZERO)
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _upright(image: Image.Image) -> Image.Image:
    """The picture as its EXIF says; web/assets/pictures.js and web/assets/predict.py do the same."""
    image.load()
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # a damaged EXIF block does not affect the pixels; viewers show them as they are
        return image
    return ImageOps.exif_transpose(image) if turned else image  # exif_transpose always copies the picture


def _eight_bits(image: Image.Image, white_is_zero: bool) -> Image.Image:
    wide = np.asarray(image).astype(np.int64).clip(0, 65535)
    if white_is_zero:  # Pillow inverts these at 8 bits, but not at 16
        wide = 65535 - wide
    narrow = ((wide + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # the one grey level of a PNG that is transparent
        narrow = np.where(wide == transparent, np.uint8(255), narrow)
    return Image.fromarray(narrow)


def _check_size(name: str, width: int, height: int, n_bytes: int) -> None:
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width} x {height} pixels; at most {MAX_SIDE:,} a side and "
            f"{MAX_PIXELS:,} in total are read, so save a smaller copy"
        )
    if width * height > max(_SMALL, MAX_PIXELS_PER_BYTE * n_bytes):
        raise ImageError(
            f"{name} claims to be {width} x {height} pixels in {n_bytes:,} bytes, which only a blank or forged "
            "picture can be; save it again or remove it"
        )
