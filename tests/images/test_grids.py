from __future__ import annotations

import numpy as np
import pytest

from fewshot_sdk.images.grids import common_sides, overlaps


@pytest.mark.parametrize(("n", "m"), [(7, 14), (6, 11), (11, 6), (5, 5), (1, 3)])
def test_cells_are_divided_without_loss_and_in_place(n: int, m: int) -> None:
    matrix = overlaps(n, m)
    np.testing.assert_allclose(matrix.sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(1), n / m, atol=1e-6)
    centres = (np.arange(m) + 0.5) / m @ matrix
    np.testing.assert_allclose(centres, (np.arange(n) + 0.5) / n, atol=0.5 / m)


def test_the_common_grid_is_the_finest_along_each_side() -> None:
    assert common_sides([(7, 14), (9, 3)]) == (9, 14)
