from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fewshot_sdk.data.textures import drawn_texture, surface, textured

KINDS = range(5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_and_its_images_are_pure_functions_of_the_generator(kind: int) -> None:
    one, same = (drawn_texture(np.random.default_rng(3), kind) for _ in range(2))
    assert one == same
    assert one.kind == kind
    left, right, other = (textured(one, 48, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(left, right)
    assert (left != other).any()


def test_without_a_kind_every_kind_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {drawn_texture(rng).kind for _ in range(100)} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_grey_and_their_mean_is_near_the_level(kind: int) -> None:
    rng = np.random.default_rng(kind)
    texture = replace(drawn_texture(rng, kind), level=128.0, contrast=30.0, threshold=0.0)
    images = np.stack([textured(texture, 96, rng) for _ in range(20)])
    assert images.shape == (20, 96, 96, 3)
    assert images.dtype == np.uint8
    assert (np.ptp(images, axis=3) == 0).all()
    assert images.mean() == pytest.approx(128, abs=15)
    assert all(image.std() > 3 for image in images)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_heights_of_noise_have_mean_0_and_deviation_1(kind: int) -> None:
    rng = np.random.default_rng(kind)
    heights = surface(replace(drawn_texture(rng, kind), frequency=10.0), 64, rng)
    assert heights.shape == (64, 64)
    assert (heights.mean(), heights.std()) == pytest.approx((0, 1), abs=1e-3)


def test_scales_are_between_minus_1_and_1_and_a_higher_threshold_leaves_less_of_them() -> None:
    texture = drawn_texture(np.random.default_rng(0), 3)
    means = []
    for threshold in (-1.0, 0.0, 1.0):
        heights = surface(replace(texture, threshold=threshold), 64, np.random.default_rng(1))
        assert np.abs(heights).max() <= 1
        means.append(heights.mean())
    assert means == sorted(means, reverse=True)


def test_stripes_have_the_frequency_of_their_class() -> None:
    texture = replace(drawn_texture(np.random.default_rng(0), 2), frequency=12.0, spread=0.02, angle=0.0)
    heights = surface(texture, 96, np.random.default_rng(1))
    spectrum = np.abs(np.fft.rfft2(heights))
    row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
    assert np.hypot(min(row, 96 - row), column) == pytest.approx(12, abs=1.5)
