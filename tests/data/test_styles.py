from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk.data.styles import STYLES, styled
from fewshot_sdk.images.preprocessing import Pixels


@pytest.fixture
def photograph() -> Pixels:
    """Smooth colours with a few edges."""
    patches = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(patches).resize((64, 64), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("style", STYLES)
def test_a_style_keeps_shape_and_type_and_is_a_pure_function_of_the_generator(photograph: Pixels, style: str) -> None:
    held = photograph.copy()
    made, again, other = (styled(photograph, style, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert made.shape == photograph.shape
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, again)
    assert (made != other).any()
    assert np.ptp(made) > 20
    np.testing.assert_array_equal(photograph, held)


class Still(np.random.Generator):
    """Draws the highest number of each range, so that nothing is cropped, mirrored or lit."""

    def uniform(self, low: float = 0, high: float = 1, size: int | None = None) -> float:  # type: ignore[override]  # noqa: ARG002
        assert size is None
        return high

    def random(self) -> float:  # type: ignore[override]
        return 1.0


def test_colour_without_a_crop_keeps_the_picture(photograph: Pixels) -> None:
    still = Still(np.random.PCG64(0))
    np.testing.assert_array_equal(styled(photograph, "colour", still), photograph)


@pytest.mark.parametrize("style", [style for style in STYLES if style not in ("colour", "coarse")])
def test_other_styles_are_grey(photograph: Pixels, style: str) -> None:
    made = styled(photograph, style, Still(np.random.PCG64(0)))
    assert (np.ptp(made, axis=2) == 0).all()


def test_a_negative_is_the_inverse_of_grey(photograph: Pixels) -> None:
    grey, negative = (styled(photograph, style, Still(np.random.PCG64(0))) for style in ("grey", "negative"))
    np.testing.assert_array_equal(255 - negative, grey)


def test_two_tones_are_black_and_white_halves(photograph: Pixels) -> None:
    made = styled(photograph, "two tones", Still(np.random.PCG64(0)))
    assert set(np.unique(made)) == {0, 255}
    assert (made == 255).mean() == pytest.approx(0.5, abs=0.02)


def test_lines_are_dark_where_the_picture_has_edges_and_nowhere_else() -> None:
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    made = styled(halves, "lines", Still(np.random.PCG64(0)))[:, :, 0]
    assert made[:, 31:33].max() < 50
    assert made[:, :16].min() == made[:, 48:].min() == 255


def test_what_is_coarse_has_fewer_details() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    for style in ("coarse", "coarse grey"):
        made = styled(noise, style, Still(np.random.PCG64(3)))
        assert np.abs(np.diff(made.astype(int), axis=1)).mean() < 30  # of the noise: 85
