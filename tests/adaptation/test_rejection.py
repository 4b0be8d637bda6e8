from __future__ import annotations

import numpy as np
import pytest

from fewshot_sdk.runtime.calibration import between


def test_the_limit_is_half_way_to_left_out_classes_that_are_all_below_it() -> None:
    assert between(0.8, np.array([0.2, 0.4])) == pytest.approx(0.6)
    assert between(0.8, np.array([0.2, 0.9])) == 0.8
    assert between(0.8, np.empty(0)) == 0.8
    assert between(None, np.array([0.2])) is None
