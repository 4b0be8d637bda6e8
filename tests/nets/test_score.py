from __future__ import annotations

import numpy as np
import pytest

from fewshot_sdk.nets.score import Cosine


@pytest.fixture
def head() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weight (4, 9), bias (4,), centre (9,), and features of 20 pictures, (20, 9)."""
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in ((4, 9), (4,), (9,), (20, 9)))  # type: ignore[return-value]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_it_is_the_cosine_to_the_nearest_row(
    head: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], temperature: float
) -> None:
    weight, bias, centre, features = head
    logits = (features @ weight.T + bias) / temperature
    away = features - centre
    lengths = np.linalg.norm(away, axis=1)[:, None] * np.linalg.norm(weight, axis=1)
    expected = (away @ weight.T / lengths).max(1)
    found = Cosine.of(weight, bias, centre, temperature).scores(logits, features)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_does_not_grow_with_the_head(head: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    weight, bias, centre, features = head
    one = Cosine.of(weight, bias, centre).scores(features @ weight.T + bias, features)
    larger = Cosine.of(9 * weight, bias, centre).scores(9 * features @ weight.T + bias, features)
    np.testing.assert_allclose(larger, one, atol=1e-5)


def test_a_picture_at_the_centre_and_a_head_of_zeros_have_a_score(
    head: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    weight, bias, centre, features = head
    assert np.isfinite(Cosine.of(weight, bias, centre).scores(centre[None] @ weight.T + bias, centre[None])).all()
    none = np.zeros_like(weight)
    assert (Cosine.of(none, bias, centre).scores(features @ none.T + bias, features) == 0).all()
