from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.images.overlays import SIDE, explanation, overlay
from fewshot_sdk.images.preprocessing import resize, seen_box

STRETCH = Preprocessing(height=32, width=32, channels=3, resize="bilinear", fit="stretch")


def test_what_speaks_for_the_label_is_red_what_speaks_against_it_blue_and_the_rest_grey() -> None:
    heat = np.array([[2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]], np.float32)
    found = np.asarray(overlay(Image.new("RGB", (80, 80), "white"), heat), np.int64)
    assert found[5, 5, 0] > found[5, 5, 2] + 100
    assert found[75, 75, 2] > found[75, 75, 0] + 50
    assert np.ptp(found[70, 10]) < 10


@pytest.mark.parametrize("settings", [
    STRETCH,
    STRETCH.replace(kept=0.6),
    STRETCH.replace(fit="crop"),
    STRETCH.replace(fit="crop", kept=0.5, width=64),
    STRETCH.replace(fit="pad"),
    STRETCH.replace(fit="pad", height=64),
])  # fmt: skip
@pytest.mark.parametrize("size", [(60, 60), (90, 41), (30, 77)])
def test_the_seen_box_resized_is_what_the_network_sees(settings: Preprocessing, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    box = seen_box(size, settings)
    canvas = Image.new("RGB", (box[2] - box[0], box[3] - box[1]), "white")
    canvas.paste(image, (-box[0], -box[1]))
    np.testing.assert_array_equal(resize(canvas, settings.replace(fit="stretch", kept=1)), resize(image, settings))


@pytest.mark.parametrize("size", [(3000, 1000), (7, 700), (28, 28)])
def test_an_explanation_has_a_readable_size_whatever_the_pictures(size: tuple[int, int]) -> None:
    page = explanation(Image.new("L", size), np.zeros((7, 7), np.float32), STRETCH, "label " * 300)
    assert SIDE < page.width < 2.2 * SIDE
    assert page.height < SIDE + 150


def test_a_map_of_zeros_leaves_the_picture_grey() -> None:
    found = np.asarray(overlay(Image.new("RGB", (8, 8), "red"), np.zeros((2, 2), np.float32)))
    assert np.ptp(found) == 0
