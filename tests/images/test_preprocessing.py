from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import ImageError
from fewshot_sdk.images.preprocessing import preprocess, read_image

GREY = Preprocessing(height=8, width=8, channels=1, resize="box")
COLOUR = GREY.replace(channels=3)


def corner() -> np.ndarray:
    """White, 4 high and 6 wide, with the top left pixel dark red."""
    picture = np.full((4, 6, 3), 255, np.uint8)
    picture[0, 0] = (80, 0, 0)
    return picture


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **settings)
    return data.getvalue()


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG with any size in its header, whatever its body."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_every_lossless_format_gives_the_same_pixels(kind: str) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    found = np.asarray(read_image(encoded(Image.fromarray(corner()), kind, **lossless)).convert("RGB"))
    np.testing.assert_array_equal(found, corner())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_any_way_gives_the_upright_picture(orientation: int) -> None:
    upright = Image.fromarray(corner())
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    turned = upright.transpose(stored[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(np.asarray(read_image(encoded(turned, "PNG", exif=exif))), corner())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_every_mode_shows_what_a_person_sees(mode: str) -> None:
    grey = np.full((4, 4), 255, np.uint8)
    grey[0, 0] = 0
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = (
            Image.fromarray(grey).convert("RGB").convert(mode) if mode != "1" else Image.fromarray(grey).convert("1")
        )
    kind = "TIFF" if mode == "CMYK" else "PNG"
    found = np.asarray(read_image(encoded(image, kind)).convert("L"))
    np.testing.assert_allclose(found.astype(int), grey, atol=2)


def test_sixteen_bits_keep_their_greys() -> None:
    ramp = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    found = np.asarray(read_image(encoded(Image.fromarray(ramp), "PNG")))
    np.testing.assert_allclose(found, ramp / 257, atol=0.5)


def test_transparent_parts_are_white() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert np.asarray(read_image(encoded(clear, "PNG"))).min() == 255


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"hello", "not a picture this program reads"),
        (encoded(Image.fromarray(corner()), "PNG")[:60], "cannot be decoded"),
        (encoded(Image.fromarray(np.zeros((99, 99, 3), np.uint8)), "JPEG")[:400], "cannot be decoded"),
        (encoded(Image.fromarray(corner()), "ICO"), "not a picture this program reads"),
    ],
)
def test_what_is_no_picture_is_told_and_named(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "holiday.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"holiday\.png.*{says}"):
        read_image(path)
    with pytest.raises(ImageError, match=says):
        read_image(data)


@pytest.mark.parametrize(("width", "height"), [(16_385, 1), (1, 16_385), (8_000, 6_251), (40_000, 40_000)])
def test_a_bomb_is_refused_from_its_header(width: int, height: int) -> None:
    tracemalloc.start()
    with pytest.raises(ImageError, match="pixels"):
        read_image(png(width, height))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png: there is no such file; check its name"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match=r"there is no such file; leave out quotes around \*"):
        read_image(tmp_path / "*.png")
    with pytest.raises(ImageError, match=r"is a folder; name the pictures in it, such as .*/\*\.jpg"):
        read_image(tmp_path)


def test_an_array_of_another_kind_is_told() -> None:
    with pytest.raises(ImageError, match=r"expected uint8 .* found float64 \[4, 4\]"):
        read_image(np.zeros((4, 4)))


def test_paths_bytes_arrays_and_pillow_images_agree(tmp_path: Path) -> None:
    path = tmp_path / "corner.png"
    Image.fromarray(corner()).save(path)
    found = [preprocess(s, COLOUR) for s in (path, str(path), path.read_bytes(), corner(), Image.fromarray(corner()))]
    assert all(np.array_equal(found[0], other) for other in found)
    assert found[0].shape == (8, 8, 3)
    assert found[0].dtype == np.uint8


def test_padding_keeps_the_whole_picture_and_adds_white() -> None:
    dark = np.zeros((4, 8), np.uint8)
    found = preprocess(dark, GREY)[:, :, 0]
    assert (found[2:6] == 0).all()
    assert (found[:2] == 255).all()
    assert (found[6:] == 255).all()


def test_cropping_keeps_the_middle() -> None:
    wide = np.zeros((4, 8), np.uint8)
    wide[:, 2:6] = 200
    assert (preprocess(wide, GREY.replace(fit="crop")) == 200).all()


def test_stretching_keeps_everything() -> None:
    half = np.zeros((4, 8), np.uint8)
    half[:, 4:] = 200
    found = preprocess(half, GREY.replace(fit="stretch"))[:, :, 0]
    assert (found[:, :4] == 0).all()
    assert (found[:, 4:] == 200).all()


def test_chalk_on_a_blackboard_reads_like_ink_on_paper() -> None:
    ink = np.full((8, 8), 255, np.uint8)
    ink[2, 3] = 0
    drawn = GREY.replace(polarity="dark_on_light")
    np.testing.assert_array_equal(preprocess(255 - ink, drawn), preprocess(ink, drawn))
    assert not np.array_equal(preprocess(255 - ink, GREY), preprocess(ink, GREY))


def test_a_thin_stroke_of_a_large_drawing_survives_the_box_filter() -> None:
    drawing = np.full((800, 800), 255, np.uint8)
    drawing[399:401] = 0
    assert preprocess(drawing, GREY).min() < 255
