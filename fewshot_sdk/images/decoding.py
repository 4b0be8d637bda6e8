"""From the bytes of a picture file to what a person sees: an allow-list of formats, under limits."""

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
# A blank 1-bit PNG reaches 8,000; a drawing scanned at 600 dpi stays under 2,000. Small pictures cost nothing anyway.
MAX_PIXELS_PER_BYTE, _SMALL = 4096, 4_000_000

# Pillow reports some damage to its log, too, which would reach the terminal where nobody handles it.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF's tags, and a value
_READ = "JPEG, PNG, WebP, BMP, GIF, TIFF"
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A picture in mode L or RGB, upright, and its whole size (width, height) as its header says it."""

    image: Image.Image
    size: tuple[int, int]


def decode(
    data: bytes, name: str, at_least: int | None = None, before: dict[tuple[int, int], Decoded] | None = None
) -> Decoded:
    """The picture in the bytes of a file: upright, transparency on white, 8 bits; a GIF's first frame.

    at_least: a JPEG may come at a half, a quarter or an eighth of its size, which is several times
    faster and smaller, as long as neither side gets less than `at_least` pixels; None: whole.
    before: what was decoded of these bytes already, by its size; added to, and taken from if it is there.
    Raises ImageError, starting with `name`, if it is unreadable, truncated, of another format than
    JPEG, PNG, WebP, BMP, GIF or TIFF, or past 64 MiB, 16,384 pixels a side, 50 million in all, or
    4,096 for each byte of the file if it has more than 4 million; the limits are checked before any
    pixel is decoded.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); remove it or put the picture there again")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES / 2**20:.3g} MiB; save a smaller copy")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        raise ImageError(
            f"{name} is a HEIC or AVIF picture, which is not read; convert it to JPEG, for example with "
            f"`magick {shlex.quote(_file_of(name))} photo.jpg`, or by sharing it from the phone as 'most compatible'"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning: our limit is lower
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(name, *image.size, len(data))
                whole = image.size
                if at_least is not None and image.format in ("JPEG", "MPO"):  # MPO: a phone's JPEG with more behind
                    image.draft(None, (at_least, at_least))
                drafted = image.size
                if before is not None and drafted in before:
                    return before[drafted]
                seen = as_seen(image)
                # A quarter turn by the camera also turns the size; the reduced sides tell, but for a square.
                turned = (seen.width > seen.height) != (whole[0] > whole[1])
                found = Decoded(image=seen, size=whole[::-1] if turned else whole)
                if before is not None:
                    before[drafted] = found
                return found
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not a picture this program reads ({_READ}); convert or remove it") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has too many pixels; make it smaller than {MAX_PIXELS:,}") from None
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything from OSError to struct.error on bad files
        reason = str(error) or type(error).__name__
        raise ImageError(f"{name} cannot be decoded ({reason}); save it again or remove it") from None


def _file_of(name: str) -> str:
    """The file's own name, of what is told to a person: without its folders, and the row of a table that names it."""
    return re.sub(r" \([^()]*, row \d+\)$", "", name).rpartition("/")[2]


def as_seen(image: Image.Image) -> Image.Image:
    """The image upright, in 8 bits, on white: mode L or RGB; itself, loaded, if it is that already."""
    tagged = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC)
    depth = max(getattr(image, "tag_v2", {}).get(_BITS, (8,)))
    image = _upright(image)
    if image.mode == "F" or (image.mode == "I" and depth > 16):
        raise ValueError("its pixels are numbers of more than 16 bits, which name no black and no white")
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion turns them white
        image = _eight_bits(image, tagged == _WHITE_IS_ZERO)
    if image.has_transparency_data:
        clear = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # a damaged EXIF block says nothing of the pixels; viewers show them as they are
        return image
    return ImageOps.exif_transpose(image) if turned else image  # it would copy the picture


def _eight_bits(image: Image.Image, white_is_zero: bool) -> Image.Image:
    wide = np.asarray(image).astype(np.int64).clip(0, 65535)
    if white_is_zero:  # Pillow turns these round at 8 bits, but not at 16
        wide = 65535 - wide
    narrow = ((wide + 128) // 257).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # the one grey of a PNG that is see-through
        narrow = np.where(wide == clear, np.uint8(255), narrow)
    return Image.fromarray(narrow)


def _check_size(name: str, width: int, height: int, n_bytes: int) -> None:
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width} x {height} pixels; at most {MAX_SIDE:,} a side and "
            f"{MAX_PIXELS:,} in all are read, so save a smaller copy"
        )
    if width * height > max(_SMALL, MAX_PIXELS_PER_BYTE * n_bytes):
        raise ImageError(
            f"{name} claims to be {width} x {height} pixels in {n_bytes:,} bytes, as only a blank or forged "
            "picture can; save it again or remove it"
        )
