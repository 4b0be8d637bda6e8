"""What inference requests cost, whatever they contain."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.web.inference import inference_request, pixels
from fewshot_sdk.web.limits import LONGEST, Refused

ANY, MANY = (-1, -1, 3), 5_000


def body(data: object, shape: object = (1, 28, 28, 3), **more: object) -> bytes:
    given = {"name": "images", "datatype": "UINT8", "shape": shape, "data": data}
    return json.dumps({"inputs": [given], **more}).encode()


def read(sent: bytes) -> Pixels:
    request = inference_request(sent)
    assert request.wanted
    return pixels(request.inputs, ANY)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(body([0] * MANY + ["a" * MANY]), id="numbers and a long string"),
        pytest.param(body(["a" * MANY] + [0] * MANY), id="a long string and numbers"),
        pytest.param(body([[0] * 3] * MANY + [["a" * MANY, 0, 0]]), id="nested numbers and a long string"),
        pytest.param(body([0] * MANY + [[0] * MANY]), id="numbers and a list"),
        pytest.param(body([[0]] * MANY + [[0] * MANY]), id="lists of different lengths"),
        pytest.param(body([[]] * MANY), id="empty lists"),
        pytest.param(body([0] * MANY + [{}]), id="numbers and an object"),
        pytest.param(body([0] * MANY + [None]), id="numbers and null"),
        pytest.param(body([0] * MANY + [True]), id="numbers and a boolean"),
        pytest.param(body([0] * MANY + [10**4000]), id="numbers and a huge one"),
        pytest.param(body([0.5] * MANY, [1, 1, MANY, 1]), id="fractions"),
        pytest.param(body([0, 0, 0], ["a"] * MANY), id="a shape of words"),
        pytest.param(body([0, 0, 0], [1] * MANY), id="a shape of many sides"),
        pytest.param(body([0, 0, 0], "a" * MANY), id="a shape that is a word"),
        pytest.param(body("a" * MANY), id="data that are a word"),
        pytest.param(body([0] * 3, [1, 1, 1, 3], outputs=[{"name": "known"}] * MANY), id="many outputs"),
        pytest.param(body([0] * 3, [1, 1, 1, 3], outputs=[{"name": "x" * MANY}]), id="an output of a long name"),
        pytest.param(json.dumps({"inputs": [{}] * MANY}).encode(), id="many inputs"),
        pytest.param(json.dumps({"inputs": {"a": [0] * MANY}}).encode(), id="inputs that are not a list"),
        pytest.param(json.dumps([0] * MANY).encode(), id="no object"),
        pytest.param(b"[" * MANY, id="brackets"),
    ],
)
def test_a_wrong_request_is_refused_in_memory_in_proportion_to_it(sent: bytes) -> None:
    with pytest.raises(Refused):
        read(sent)  # imports and caches on the way are not counted
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as refusal:
            read(sent)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refusal.value.status == 400
    assert len(refusal.value.reason) <= LONGEST + 3
    assert peak < 40 * len(sent) + 100_000


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1", "0.5", "256", "9" * 5000])
def test_a_number_that_is_not_a_pixel_is_refused(number: str) -> None:
    with pytest.raises(Refused) as refusal:
        read(body([0, 0, 0], [1, 1, 1, 3]).replace(b"[0, 0, 0]", f"[0, 0, {number}]".encode()))
    assert refusal.value.status == 400


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_pixels_are_read_flat_or_nested_and_whole_however_they_are_written(nested: bool, kind: Any) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (2, 150, 150, 3), np.uint8)  # more than one part
    written = drawn.astype(kind)
    found = read(body(written.tolist() if nested else written.ravel().tolist(), drawn.shape))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, drawn)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": [1.5]},
        {"data": [-0.1]},
        {"data": [True]},
        {"data": ["0.5"]},
        {"data": [[0.5]]},
        {"data": []},
        {"data": [0.5, 0.5]},
        {"data": [10**4000]},
        {"shape": [2]},
        {"datatype": "FP64"},
    ],
)
def test_a_threshold_is_one_number_from_0_to_1(changes: dict[str, object]) -> None:
    given = json.loads(body([0, 0, 0], [1, 1, 1, 3]))
    tensor = {"name": "threshold", "datatype": "FP32", "shape": [1], "data": [0.5]}
    given["inputs"].append(tensor)
    request = inference_request(json.dumps(given).encode())
    assert request.threshold == 0.5
    assert pixels(request.pictures, ANY).shape == (1, 1, 1, 3)
    given["inputs"][1] = {**tensor, **changes}
    with pytest.raises(Refused, match=r"expected one input 'threshold' of datatype FP32"):
        _ = inference_request(json.dumps(given).encode()).threshold
    given["inputs"][1] = tensor
    with pytest.raises(Refused, match=r"expected one input 'threshold' of datatype FP32"):
        _ = inference_request(json.dumps({**given, "inputs": [tensor, tensor]}).encode()).threshold
    with pytest.raises(Refused, match="expected one input 'images'"):
        pixels(inference_request(json.dumps({"inputs": [tensor]}).encode()).pictures, ANY)
