"""Preprocessing in ONNX operators gives the same bits as in Python, on noise and on photographs."""

from __future__ import annotations

import io
import itertools
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes, value
from fewshot_sdk.graphs.preprocessing import network_pixels
from fewshot_sdk.images.preprocessing import MANY_PIXELS, Pixels, enough_pixels, picture, preprocess, resize
from fewshot_sdk.runtime.session import opened
from tests.conftest import REAL_DATA

FILTERS: tuple[Literal["nearest", "box", "bilinear", "bicubic"], ...] = ("nearest", "box", "bilinear", "bicubic")
FITS: tuple[Literal["pad", "crop", "stretch"], ...] = ("pad", "crop", "stretch")
PHOTO = Preprocessing(height=84, width=84, channels=3, resize="bilinear", fit="crop")


def session_of(settings: Preprocessing) -> onnxruntime.InferenceSession:
    g = Nodes()
    g.output(network_pixels(g, "images", settings), "found")
    images = value("images", np.uint8, "batch", "height", "width", 3)
    found = value("found", np.float32, "batch", settings.channels, settings.height, settings.width)
    return opened(g.model([images], [found]).SerializeToString(), 1).session


def by_onnx(session: onnxruntime.InferenceSession, pictures: Pixels) -> Pixels:
    (found,) = session.run(None, {"images": pictures})
    whole = found.astype(np.uint8)
    np.testing.assert_array_equal(whole, found)
    return np.asarray(whole).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("filter_", FILTERS)
@pytest.mark.parametrize("fit", FITS)
def test_every_filter_and_fit_gives_pillows_bits(
    filter_: Literal["nearest", "box", "bilinear", "bicubic"], fit: Literal["pad", "crop", "stretch"]
) -> None:
    rng = np.random.default_rng(0)
    for channels, polarity, (height, width), kept in itertools.product(
        (1, 3), ("keep", "dark_on_light"), ((28, 28), (12, 7), (7, 40)), (1.0, 0.875)
    ):
        if fit == "pad" and kept < 1:
            continue
        size = {"height": height, "width": width, "channels": channels, "kept": kept}
        settings = Preprocessing.model_validate({**size, "resize": filter_, "fit": fit, "polarity": polarity})
        session = session_of(settings)
        for round_ in range(12):
            sides = np.exp(rng.uniform(0, np.log(250), 2)).round().astype(int)
            bright = 256 if round_ % 2 else int(rng.integers(2, 256))
            pictures = rng.integers(0, bright, (2, *sides, 3), np.uint8)
            wanted = [resize(Image.fromarray(one), settings) for one in pictures]
            np.testing.assert_array_equal(by_onnx(session, pictures), np.stack(wanted), f"{settings} {sides}")


def test_a_grey_picture_stays_grey_and_inverted_exactly_at_the_middle() -> None:
    settings = Preprocessing(height=4, width=4, channels=1, resize="box", polarity="dark_on_light")
    session = session_of(settings)
    for level in range(256):
        grey = np.full((4, 4), level, np.uint8)
        found = by_onnx(session, grey[None, :, :, None].repeat(3, 3))
        np.testing.assert_array_equal(found[0], preprocess(grey, settings))
    half = np.repeat(np.array([[0], [255]], np.uint8), 4, 1).repeat(2, 0)  # its mean is 127.5: light enough
    np.testing.assert_array_equal(by_onnx(session, half[None, :, :, None].repeat(3, 3))[0, :, :, 0], half)


def test_boxes_of_thousands_of_pixels_are_counted_exactly() -> None:
    rng = np.random.default_rng(0)
    cases: tuple[tuple[Literal["pad", "stretch"], int], ...] = (("pad", 1999), ("stretch", 16399), ("stretch", 60001))
    for fit, width in cases:
        settings = Preprocessing(height=4, width=5, channels=1, resize="box", fit=fit, polarity="dark_on_light")
        session = session_of(settings)
        for strip in (rng.choice(np.array([0, 255], np.uint8), (6, width)), np.full((6, width), 255, np.uint8)):
            for one in (strip, strip.T):
                found = by_onnx(session, np.repeat(one[None, :, :, None], 3, 3))[0]
                np.testing.assert_array_equal(found, resize(Image.fromarray(one), settings), f"{settings} {one.shape}")


@pytest.mark.skipif(not REAL_DATA, reason="FEWSHOT_DATA names no data")
@pytest.mark.parametrize(("filter_", "fit"), [("bilinear", "crop"), ("bicubic", "stretch"), ("box", "pad")])
def test_real_photographs_give_the_same_bits(
    filter_: Literal["box", "bilinear", "bicubic"], fit: Literal["pad", "crop", "stretch"]
) -> None:
    with zipfile.ZipFile(Path(str(REAL_DATA)) / "mini-imagenet" / "val.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][::40]
        photos = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
    assert len(photos) == 40
    for height, width in ((28, 28), (50, 84)):
        settings = PHOTO.replace(height=height, width=width, resize=filter_, fit=fit)
        session = session_of(settings)
        for photo in photos:
            tall = photo.resize((200, 317), Image.Resampling.BICUBIC)
            for one in (photo, tall):
                found = by_onnx(session, picture(one, settings)[None])[0]
                np.testing.assert_array_equal(found, preprocess(one, settings))


def test_a_large_picture_is_bounded_alike_for_both_and_hardly_changes() -> None:
    y, x = np.mgrid[0:1500, 0:2402]  # of which squares of 3 x 3 leave 2 columns
    waves = [127 + 120 * np.sin(x / a + y / b) for a, b in ((90, 50), (30, 80), (200, 20))]
    large = np.stack(waves, 2).astype(np.uint8)
    bounded = picture(large, PHOTO)
    assert bounded.shape == (500, 800, 3)
    assert bounded.shape[0] * bounded.shape[1] <= MANY_PIXELS
    found = by_onnx(session_of(PHOTO), bounded[None])[0]
    np.testing.assert_array_equal(found, preprocess(large, PHOTO))
    middle = Image.fromarray(large[:, 451:1951])
    exact = np.asarray(middle.resize((84, 84), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found - exact).max() <= 1
    assert min(picture(large[:300], PHOTO).shape[:2]) >= (enough_pixels(PHOTO) or 0)
    nearest = PHOTO.replace(resize="nearest")
    assert picture(large, nearest).shape == large.shape
