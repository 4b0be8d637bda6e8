"""Preprocessing in ONNX operators gives the same bits as in Python, on noise and on photographs."""

from __future__ import annotations

import io
import itertools
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.graphs.nodes import Nodes, value
from fewshot_sdk.graphs.preprocessing import network_pixels
from fewshot_sdk.images.preprocessing import MANY_PIXELS, Pixels, picture, preprocess, resize, stand_in
from fewshot_sdk.runtime.session import opened
from tests.conftest import REAL_DATA

FILTERS: tuple[Literal["nearest", "box", "bilinear", "bicubic"], ...] = ("nearest", "box", "bilinear", "bicubic")
FITS: tuple[Literal["pad", "crop", "stretch"], ...] = ("pad", "crop", "stretch")
PHOTO = Preprocessing(height=84, width=84, channels=3, resize="bilinear", fit="crop")


def session_of(settings: Preprocessing) -> onnxruntime.InferenceSession:
    return opened(model_of(settings).SerializeToString(), 1).session


def model_of(settings: Preprocessing) -> onnx.ModelProto:
    g = Nodes()
    g.output(network_pixels(g, "images", settings), "found")
    images = value("images", np.uint8, "batch", "height", "width", 3)
    found = value("found", np.float32, "batch", settings.channels, settings.height, settings.width)
    return g.model([images], [found])


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


@pytest.mark.parametrize("filter_", FILTERS)
@pytest.mark.parametrize("fit", FITS)
def test_it_has_nothing_that_older_onnxruntimes_lack(
    filter_: Literal["nearest", "box", "bilinear", "bicubic"], fit: Literal["pad", "crop", "stretch"]
) -> None:
    """They fuse a transpose with the product behind it, and have neither that nor ReduceProd for float64."""
    settings = Preprocessing(height=8, width=8, channels=1, resize=filter_, fit=fit, polarity="dark_on_light")
    nodes = model_of(settings).graph.node
    transposed = {node.output[0] for node in nodes if node.op_type == "Transpose"}
    assert not [node.name for node in nodes if node.op_type == "MatMul" and transposed & set(node.input)]
    assert "ReduceProd" not in {node.op_type for node in nodes}


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


@pytest.mark.parametrize("filter_", FILTERS)
def test_a_large_picture_gives_the_same_bits_whole(filter_: Literal["nearest", "box", "bilinear", "bicubic"]) -> None:
    rng = np.random.default_rng(0)
    for fit, (height, width) in (("crop", (1201, 900)), ("stretch", (16, 16_384)), ("pad", (3001, 40))):
        settings = PHOTO.replace(resize=filter_, fit=fit, height=20)
        large = rng.integers(0, 256, (height, width, 3), np.uint8)
        found = by_onnx(session_of(settings), large[None])[0]
        np.testing.assert_array_equal(found, preprocess(large, settings))


@pytest.mark.parametrize("filter_", FILTERS)
@pytest.mark.parametrize("fit", FITS)
def test_the_graph_makes_the_same_pixels_of_a_large_picture_and_of_its_stand_in(
    filter_: Literal["nearest", "box", "bilinear", "bicubic"], fit: Literal["pad", "crop", "stretch"]
) -> None:
    large = np.random.default_rng(0).integers(0, 160, (700, 800, 3), np.uint8)
    for channels, polarity, (height, width), kept in itertools.product(
        (1, 3), ("keep", "dark_on_light"), ((28, 28), (84, 51)), (1.0, 0.875)
    ):
        if fit == "pad" and kept < 1:
            continue
        size = {"height": height, "width": width, "channels": channels, "kept": kept}
        settings = Preprocessing.model_validate({**size, "resize": filter_, "fit": fit, "polarity": polarity})
        small = picture(large, settings)
        assert small.shape[0] * small.shape[1] < 2 * height * width
        found = by_onnx(session_of(settings), small[None])[0]
        np.testing.assert_array_equal(found, preprocess(large, settings), str(settings))


def test_a_picture_without_a_stand_in_is_passed_on_whole() -> None:
    settings = PHOTO.replace(polarity="dark_on_light")
    light = np.zeros((800, 1600, 3), np.uint8)
    light[:, :410] = light[:, 1190:] = 255  # light as a whole, dark in the middle, which is what the network sees
    assert stand_in(Image.fromarray(light), settings) is None
    np.testing.assert_array_equal(picture(light, settings), light)
    np.testing.assert_array_equal(by_onnx(session_of(settings), light[None])[0], preprocess(light, settings))


def test_a_picture_of_half_a_megapixel_is_passed_on_whole() -> None:
    whole = np.zeros((512, MANY_PIXELS // 512, 3), np.uint8)
    assert picture(whole, PHOTO).shape == whole.shape
