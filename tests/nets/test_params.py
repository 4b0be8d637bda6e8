from __future__ import annotations

import pytest
import torch

from fewshot_sdk.errors import ParamsMismatch
from fewshot_sdk.nets.params import Params, check_alike, difference, interpolate


def random(seed: int) -> Params:
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(3, 2, generator=generator), "b": torch.randn(4, generator=generator)}


def same(left: Params, right: Params) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_a_step_of_zero_gives_back_the_old_weights_to_the_bit() -> None:
    assert same(interpolate(random(0), random(1), 0.0), random(0))


def test_a_step_of_one_gives_the_new_weights_to_the_bit() -> None:
    assert same(interpolate(random(0), random(1), 1.0), random(1))


def test_a_step_between_is_the_formula() -> None:
    old, new = random(0), random(1)
    moved = interpolate(old, new, 0.25)
    for name in old:
        torch.testing.assert_close(moved[name], old[name] + 0.25 * (new[name] - old[name]))


def test_old_plus_difference_is_new() -> None:
    old, new = random(0), random(1)
    for name, delta in difference(new, old).items():
        torch.testing.assert_close(old[name] + delta, new[name])


def test_inputs_are_left_as_they_were() -> None:
    old, new = random(0), random(1)
    interpolate(old, new, 0.5)
    difference(old, new)
    assert same(old, random(0))
    assert same(new, random(1))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"a": torch.zeros(3, 2)}, "'b' is missing"),
        ({**random(0), "c": torch.zeros(1)}, "unexpected tensor 'c'"),
        ({**random(0), "a": torch.zeros(2, 3)}, r"'a': expected float32 \[3, 2\], found float32 \[2, 3\]"),
        ({**random(0), "b": torch.zeros(4).double()}, r"'b': expected float32 \[4\], found float64 \[4\]"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(found: Params, says: str) -> None:
    with pytest.raises(ParamsMismatch, match=says):
        check_alike(found, random(0), "weights")
    with pytest.raises(ParamsMismatch, match=says):
        interpolate(random(0), found, 0.5)
