from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ImageError
from fewshot_sdk.images import decoding
from fewshot_sdk.images.decoding import decode
from fewshot_sdk.images.preprocessing import Pixels, preprocess, read_image
from tests.images.test_preprocessing import encoded, png

PHOTO = Preprocessing(height=84, width=84, channels=3, resize="bilinear", fit="crop")


def upright() -> Pixels:
    """16 high and 24 wide, flat blocks of 8 pixels of six colours, which JPEG keeps."""
    colours = [[(200, 30, 60), (20, 180, 90), (40, 60, 220)], [(250, 240, 10), (128, 128, 128), (0, 0, 0)]]
    return np.asarray(colours, np.uint8).repeat(8, 0).repeat(8, 1)


def stored(shown: Pixels, orientation: int) -> Pixels:
    """The file's pixels by the EXIF standard: each comment says where its row 0 and column 0 are shown."""
    flips: dict[int, Callable[[Pixels], Pixels]] = {
        1: lambda a: a,  # top, left
        2: lambda a: a[:, ::-1],  # top, right
        3: lambda a: a[::-1, ::-1],  # bottom, right
        4: lambda a: a[::-1],  # bottom, left
        5: lambda a: a.swapaxes(0, 1),  # left, top
        6: lambda a: a[:, ::-1].swapaxes(0, 1),  # right, top
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),  # right, bottom
        8: lambda a: a[::-1].swapaxes(0, 1),  # left, bottom
    }
    return np.ascontiguousarray(flips[orientation](shown))


def over_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    share = alpha[:, :, None] / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def file_and_truth(mode: str, rgb: Pixels, exif: Image.Exif) -> tuple[bytes, Pixels]:
    """A file of this mode made from stored pixels, and the RGB pixels that it should show."""
    kind, _, mode = mode.partition(" ")
    grey, alpha = rgb[:, :, 0], rgb[:, :, 1]
    as_rgb = np.dstack([grey] * 3)
    settings: dict[str, object] = {"exif": exif}
    if kind == "WEBP":
        settings |= {"lossless": True, "exact": True}
    if kind == "JPEG":
        settings |= {"quality": 100, "subsampling": 0}
    if mode == "1":
        return encoded(Image.fromarray(grey > 100), kind, **settings), np.where(as_rgb > 100, 255, 0).astype(np.uint8)
    if mode == "L":
        return encoded(Image.fromarray(grey), kind, **settings), as_rgb
    if mode == "L+clear":
        truth = np.where(as_rgb == 40, 255, as_rgb).astype(np.uint8)
        return encoded(Image.fromarray(grey), kind, transparency=40, **settings), truth
    if mode == "LA":
        return encoded(Image.fromarray(np.dstack([grey, alpha]), "LA"), kind, **settings), over_white(as_rgb, alpha)
    if mode.startswith("P"):
        palette, index = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
        image = Image.fromarray(index.reshape(grey.shape).astype(np.uint8), "P")
        image.putpalette(palette.astype(np.uint8).tobytes())
        if mode == "P":
            return encoded(image, kind, **settings), rgb
        truth = np.where(index.reshape(grey.shape)[:, :, None] == 2, 255, rgb).astype(np.uint8)
        return encoded(image, kind, transparency=2, **settings), truth
    if mode == "RGB":
        return encoded(Image.fromarray(rgb), kind, **settings), rgb
    if mode == "RGB+clear":
        truth = np.where((rgb == (40, 60, 220)).all(2, keepdims=True), 255, rgb).astype(np.uint8)
        return encoded(Image.fromarray(rgb), kind, transparency=(40, 60, 220), **settings), truth
    if mode == "RGBA":
        return encoded(Image.fromarray(np.dstack([rgb, alpha])), kind, **settings), over_white(rgb, alpha)
    if mode == "CMYK":
        ink = np.dstack([255 - rgb, np.full_like(grey, 51)])
        return encoded(Image.fromarray(ink, "CMYK"), kind, **settings), np.rint(rgb * 0.8).astype(np.uint8)
    wide = grey.astype(np.uint16) * 257
    if mode == "I;16":
        return encoded(Image.fromarray(wide), kind, **settings), as_rgb
    assert mode == "I;16+clear"
    truth = np.where(as_rgb == 40, 255, as_rgb).astype(np.uint8)
    return encoded(Image.fromarray(wide), kind, transparency=40 * 257, **settings), truth


MODES = [
    *(f"PNG {mode}" for mode in ("1", "L", "L+clear", "LA", "P", "P+clear", "RGB", "RGB+clear", "RGBA", "I;16")),
    "PNG I;16+clear",
    *(f"TIFF {mode}" for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16")),
    *(f"JPEG {mode}" for mode in ("L", "RGB", "CMYK")),
    *(f"WEBP {mode}" for mode in ("RGB", "RGBA")),
]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", MODES)
def test_a_picture_is_what_a_person_sees_whatever_its_mode_and_orientation(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    _, truth = file_and_truth(mode, upright(), exif)
    data, _ = file_and_truth(mode, stored(upright(), orientation), exif)
    found = decode(data, "it")
    assert found.mode in ("L", "RGB")
    assert found.size == (24, 16)
    np.testing.assert_allclose(np.asarray(found.convert("RGB"), int), truth, atol=2)


def test_of_a_gif_the_first_frame_is_seen() -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    data = encoded(red, "GIF", save_all=True, append_images=[blue])
    assert decode(data, "it").convert("RGB").getpixel((3, 3)) == (255, 0, 0)


def test_damaged_exif_does_not_hide_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif))
    at = data.index(b"Exif\0\0") + 6
    for byte in range(at, at + 26):
        broken = data.copy()
        broken[byte] ^= 0xFF
        assert decode(bytes(broken), "it").size in ((40, 20), (20, 40))


def container(*brands: bytes) -> bytes:
    """The first box of a HEIC or AVIF file."""
    return struct.pack(">I", 12 + 4 * len(brands)) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:]) + bytes(9)


@pytest.mark.parametrize("brands", [(b"heic", b"mif1"), (b"mif1", b"heic"), (b"msf1",)])
def test_heic_names_the_extra_and_how_to_convert_it(brands: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    wanted = r"album/IMG_1\.HEIC is a HEIC .*`pip install 'fewshot-sdk\[heic\]'`.* `magick IMG_1\.HEIC photo\.jpg`"
    with pytest.raises(ImageError, match=wanted):
        decode(container(*brands), "album/IMG_1.HEIC")


@pytest.mark.parametrize("brands", [(b"avif",), (b"mif1", b"miaf", b"avif")])
def test_avif_without_a_decoder_says_what_to_install(
    brands: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "FORMATS", ("JPEG",))
    with pytest.raises(ImageError, match="it is an AVIF picture; install a Pillow"):
        decode(container(*brands), "it")


def test_numbers_without_a_white_are_refused() -> None:
    data = encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    with pytest.raises(ImageError, match="numbers of more than 16 bits"):
        decode(data, "it")


def forged(kind: str, side: int) -> bytes:
    """A tiny file whose header says `side` x `side` pixels."""
    if kind == "PNG":
        return png(side, side)
    if kind == "WEBP":
        canvas = (side - 1).to_bytes(3, "little") * 2
        inner = b"WEBPVP8X" + struct.pack("<II", 10, 16) + canvas + b"VP8L" + struct.pack("<I", 6) + b"\x2f" + bytes(5)
        return b"RIFF" + struct.pack("<I", len(inner)) + inner
    data = bytearray(encoded(Image.new("RGB", (16, 16), "red"), kind))
    if kind == "BMP":
        data[18:26] = struct.pack("<ii", side, side)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", side, side)
    elif kind == "JPEG":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    else:
        (start,) = struct.unpack("<I", data[4:8])
        for tag in range(start + 2, start + 2 + 12 * data[start], 12):
            if struct.unpack("<H", data[tag : tag + 2])[0] in (256, 257):
                data[tag + 2 : tag + 12] = struct.pack("<HII", 4, 1, side)
    return bytes(data)


_PEAK = """
import resource, sys
from fewshot_sdk.images.decoding import decode
from fewshot_sdk.errors import ImageError
from tests.images.test_decoding import forged
# The decoders' own code is loaded first.
for kind in ("PNG", "WEBP", "BMP", "GIF", "JPEG", "TIFF"):
    try:
        decode(forged(kind, 16), kind)
    except ImageError:
        pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refused = 0
for kind in ("PNG", "WEBP", "BMP", "GIF", "JPEG", "TIFF"):
    for side in (7000, 12000, 16000, 60000):
        try:
            decode(forged(kind, side), kind)
        except ImageError:
            refused += 1
print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="measures memory by getrusage")
def test_tiny_files_with_huge_headers_cost_no_memory() -> None:
    assert len(forged("GIF", 7000)) <= 68
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    refused, more = map(int, done.stdout.split())
    assert refused == 6 * 4
    assert more / (2**20 if sys.platform == "darwin" else 2**10) < 8  # MiB; 7,000 x 7,000 pixels would be 140


def photo(width: int = 2000, height: int = 1500, seed: int = 0) -> Image.Image:
    """Patches of all sizes with noise, as in a photograph."""
    rng = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3), np.float32)
    for cells in (4, 12, 40, 150):
        patches = Image.fromarray(rng.integers(0, 256, (cells * 3 // 4, cells, 3), np.uint8))
        whole += np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), np.float32) / cells**0.35
    whole += rng.normal(0, 3, (height, width, 1)).astype(np.float32)
    whole -= whole.min()
    return Image.fromarray((whole * (255 / whole.max())).astype(np.uint8))


@pytest.mark.parametrize("filter_", ["box", "bilinear", "bicubic", "nearest"])
def test_a_large_photograph_is_seen_whole_whether_it_is_a_file_or_an_array(filter_: str) -> None:
    settings = PHOTO.replace(resize=filter_)
    data = encoded(photo(), "JPEG", quality=90)
    whole = Image.open(io.BytesIO(data)).crop((250, 0, 1750, 1500))
    filters = Image.Resampling
    if filter_ != "nearest":
        whole = whole.resize((84, 1500), filters[filter_.upper()])
    exact = np.asarray(whole.resize((84, 84), filters[filter_.upper()]))
    np.testing.assert_array_equal(preprocess(data, settings), exact)
    np.testing.assert_array_equal(preprocess(np.asarray(read_image(data)), settings), exact)


def test_sixteen_bits_of_which_none_is_white_are_turned_round() -> None:
    wide = Image.fromarray(np.array([[0, 65535]], np.uint16))
    data = io.BytesIO()
    wide.save(data, "TIFF", tiffinfo={262: 0})
    assert np.asarray(decode(data.getvalue(), "it")).tolist() == [[255, 0]]
