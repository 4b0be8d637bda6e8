"""The kinds of picture files that people have, made by Pillow, and what every entrance says of each."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
from PIL import Image, features

from tests.images.test_decoding import forged, photo
from tests.images.test_preprocessing import encoded

HEIF = find_spec("pillow_heif") is not None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of file.

    refused: what the refusal says after the file's name, or None for a picture.
    browser: how many of 255 levels a page's pixels may be away; None: browsers do not read it, or need not refuse it.
    """

    data: Callable[[], bytes]
    refused: str | None = None
    browser: int | None = None


def scene(width: int = 96, height: int = 72) -> Image.Image:
    return photo(width, height, 4)


def clear() -> Image.Image:
    """The scene, from transparent at the left to opaque at the right."""
    image = scene()
    fade = np.broadcast_to(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, image.width))
    image.putalpha(Image.fromarray(np.ascontiguousarray(fade)))
    return image


def cut() -> Image.Image:
    """The scene, with a transparent quarter."""
    image = scene()
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 48, 36))
    image.putalpha(alpha)
    return image


def saved(image: Callable[[], Image.Image], kind: str, mode: str | None = None, **settings: object) -> bytes:
    found = image() if mode is None else image().convert(mode)
    return encoded(found, kind, **settings)


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(scene(), kind, quality=95, exif=exif)


def large() -> bytes:
    """12 megapixels."""
    return encoded(scene(800, 600).resize((4000, 3000), Image.Resampling.NEAREST), "JPEG", quality=90)


def wide(mode: str) -> bytes:
    """16 bits a channel, of which the lower 8 differ; Pillow writes no such colours."""
    colours = np.asarray(scene()).astype(np.uint16) * 256
    colours += np.random.default_rng(0).integers(0, 256, colours.shape, np.uint16)
    if mode == "L":
        return png(np.ascontiguousarray(colours[:, :, 1]), bits=16, colour=0)
    return png(colours, bits=16, colour=2)


def png(pixels: np.ndarray, bits: int, colour: int, interlaced: bool = False) -> bytes:
    """A PNG of these pixels, without filters.  Source: the PNG specification, sections 7 and 8.2."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    lines = b""
    for top, left, down, right in passes if interlaced else [(0, 0, 1, 1)]:
        for row in pixels[top::down, left::right]:
            lines += b"\0" + row.astype(f">u{bits // 8}").tobytes()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def without_adobe() -> bytes:
    """A CMYK JPEG that does not say whose inks it has."""
    data = saved(scene, "JPEG", "CMYK", quality=95)
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]


def heic(orientation: int = 1) -> bytes:
    """A HEIC that says how it is turned as phones do, in its own boxes."""
    from pillow_heif.constants import HeifCompressionFormat
    from pillow_heif.misc import CtxEncode

    data, encoder = io.BytesIO(), CtxEncode(HeifCompressionFormat.HEVC, quality=90)
    encoder.add_image((96, 72), "RGB", scene().tobytes(), image_orientation=orientation)
    encoder.save(data)
    return data.getvalue()


def numbers(kind: type) -> bytes:
    return encoded(Image.fromarray(np.asarray(scene().convert("L")).astype(kind)), "TIFF")


UNKNOWN = "is not a picture this program reads (JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF, TIFF); convert or remove it"
DAMAGED = "cannot be decoded ("
DEEP = "cannot be decoded (its pixels are numbers of more than 16 bits, without a defined black and white)"

KINDS: dict[str, Kind] = {
    "jpeg": Kind(data=partial(saved, scene, "JPEG", quality=95), browser=0),
    "jpeg 4:4:4": Kind(data=partial(saved, scene, "JPEG", quality=95, subsampling=0), browser=0),
    "jpeg progressive": Kind(data=partial(saved, scene, "JPEG", quality=80, progressive=True), browser=0),
    "jpeg grey": Kind(data=partial(saved, scene, "JPEG", "L", quality=95), browser=0),
    "jpeg cmyk": Kind(data=partial(saved, scene, "JPEG", "CMYK", quality=95), browser=1),
    "jpeg cmyk without adobe": Kind(data=without_adobe, browser=1),
    **{f"jpeg turned {i}": Kind(data=partial(turned, i), browser=0) for i in range(1, 9)},
    "jpeg of 12 megapixels": Kind(data=large, browser=0),
    "mpo": Kind(data=partial(saved, scene, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]), browser=0),
    "png 1 bit": Kind(data=partial(saved, scene, "PNG", "1"), browser=0),
    "png grey": Kind(data=partial(saved, scene, "PNG", "L"), browser=0),
    "png 16-bit grey": Kind(data=partial(wide, "L"), browser=0),
    "png 16-bit": Kind(data=partial(wide, "RGB"), browser=0),
    "png palette": Kind(data=partial(saved, scene, "PNG", "P"), browser=0),
    "png palette with a clear colour": Kind(data=partial(saved, scene, "PNG", "P", transparency=7), browser=0),
    "png grey and alpha": Kind(data=partial(saved, clear, "PNG", "LA"), browser=1),
    "png": Kind(data=partial(saved, scene, "PNG"), browser=0),
    "png alpha": Kind(data=partial(saved, clear, "PNG"), browser=1),
    "png with a hole": Kind(data=partial(saved, cut, "PNG"), browser=0),
    "png interlaced": Kind(data=lambda: png(np.asarray(scene()), bits=8, colour=2, interlaced=True), browser=0),
    "webp": Kind(data=partial(saved, scene, "WEBP", quality=90), browser=0),
    "webp lossless": Kind(data=partial(saved, scene, "WEBP", lossless=True), browser=0),
    "webp alpha": Kind(data=partial(saved, clear, "WEBP", lossless=True, exact=True), browser=1),
    "gif": Kind(data=partial(saved, scene, "GIF"), browser=0),
    "gif animated": Kind(
        data=partial(saved, scene, "GIF", save_all=True, append_images=[Image.new("RGB", (96, 72))]), browser=0
    ),
    "bmp 1 bit": Kind(data=partial(saved, scene, "BMP", "1"), browser=0),
    "bmp 8 bits": Kind(data=partial(saved, scene, "BMP", "P"), browser=0),
    "bmp": Kind(data=partial(saved, scene, "BMP"), browser=0),
    "bmp 32 bits": Kind(data=partial(saved, cut, "BMP"), browser=0),
    "tiff": Kind(data=partial(saved, scene, "TIFF")),
    "tiff 1 bit": Kind(data=partial(saved, scene, "TIFF", "1")),
    "tiff lzw": Kind(data=partial(saved, scene, "TIFF", compression="tiff_lzw")),
    "tiff jpeg": Kind(data=partial(saved, scene, "TIFF", compression="jpeg")),
    "tiff cmyk": Kind(data=partial(saved, scene, "TIFF", "CMYK")),
    "tiff alpha": Kind(data=partial(saved, clear, "TIFF")),
    "tiff 16-bit": Kind(data=lambda: numbers(np.uint16)),
    "tiff of integers": Kind(data=lambda: numbers(np.int32), refused=DEEP),
    "tiff of floats": Kind(data=lambda: numbers(np.float32), refused=DEEP),
    "half a jpeg": Kind(data=lambda: saved(scene, "JPEG")[:1500], refused=DAMAGED),
    "half a png": Kind(data=lambda: saved(scene, "PNG")[:5000], refused=DAMAGED),
    "a png with a damaged header": Kind(
        data=lambda: saved(scene, "PNG").replace(b"IHDR", b"IHDX"), refused=f"{DAMAGED}its header is damaged)"
    ),
    "a forged png": Kind(data=partial(forged, "PNG", 7000), refused="claims to be 7000 x 7000 pixels in "),
    "a huge gif": Kind(data=partial(forged, "GIF", 8000), refused="is 8000 x 8000 pixels; at most 16,384 a side"),
    "nothing": Kind(data=bytes, refused="is empty (0 bytes); remove it or copy the picture there again"),
    "text": Kind(data=lambda: b"no picture", refused=UNKNOWN),
    "an icon": Kind(data=partial(saved, scene, "ICO"), refused=UNKNOWN),
    "a ppm": Kind(data=partial(saved, scene, "PPM"), refused=UNKNOWN),
    "half a heic": Kind(
        data=lambda: heic()[:900] if HEIF else b"\0\0\0\x14ftypheic\0\0\0\0mif1",
        refused=DAMAGED if HEIF else "is a HEIC picture; install pillow-heif",
    ),
}
if features.check("avif"):
    KINDS["avif"] = Kind(data=partial(saved, scene, "AVIF", quality=90), browser=1)
    KINDS["avif turned"] = Kind(data=partial(turned, 6, "AVIF"), browser=1)
if HEIF:
    KINDS["heic"] = Kind(data=heic)
    KINDS["heic turned"] = Kind(data=partial(heic, 6))
