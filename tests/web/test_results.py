"""Binary tensors: what tritonclient sends is answered, and what does not fit is refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_sdk import Predictor, adapt, export_onnx
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.web.results import JSON_SIZE
from fewshot_sdk.web.server import application
from tests.conftest import REPOSITORY, draw_folder
from tests.web.test_limits import INFER, OURS, Judge, exchanged, served

PICTURES = (np.arange(2 * 4 * 5 * 3) % 251).astype(np.uint8).reshape(2, 4, 5, 3)
# The bytes of three requests by tritonclient 2.73.0, `infer` of its HTTP client, for the model `shapes`.
SENT = json.loads((REPOSITORY / "tests" / "web" / "tritonclient.json").read_text(encoding="utf-8"))
IMAGES = {"name": "images", "shape": list(PICTURES.shape), "datatype": "UINT8"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, init: Initialization) -> Path:
    folder = tmp_path_factory.mktemp("binary")
    export_onnx(adapt(init, draw_folder(folder / "drawings"), method="reptile", reject_rate=None), folder / "m.onnx")
    return folder / "m.onnx"


def taken_apart(request: str) -> tuple[str, dict[str, str], bytes]:
    """Path, headers and body of an HTTP request."""
    head, _, body = request.encode("latin-1").partition(b"\r\n\r\n")
    line, *rows = head.decode().split("\r\n")
    headers = dict(row.lower().split(": ", 1) for row in rows)
    return line.split()[1], headers, body


def tensors(body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """The outputs of an answer, by name, as a client reads them."""
    size = int(headers.get(JSON_SIZE.lower(), len(body)))
    said, rest, found = json.loads(body[:size]), body[size:], {}
    for output in said["outputs"]:
        n = output.get("parameters", {}).get("binary_data_size")
        assert (n is None) == ("data" in output)
        values = output.get("data")
        if n is not None:
            part, rest = rest[:n], rest[n:]
            values = texts(part) if output["datatype"] == "BYTES" else np.frombuffer(part, KINDS[output["datatype"]])
        found[output["name"]] = np.reshape(values, output["shape"])
    assert rest == b""
    return found


KINDS = {"FP32": "<f4", "BOOL": "?"}


def texts(data: bytes) -> list[str]:
    found = []
    while data:
        n = int.from_bytes(data[:4], "little")
        found.append(data[4 : 4 + n].decode())
        data = data[4 + n :]
    return found


@pytest.mark.parametrize(
    ("name", "outputs", "binary"),
    [
        ("all binary", {"probabilities", "labels", "known"}, True),
        ("threshold, mixed outputs", {"probabilities", "known"}, True),
        ("JSON", {"labels"}, False),
    ],
)
def test_tritonclient_gets_what_the_predictor_says(model: Path, name: str, outputs: set[str], binary: bool) -> None:
    path, headers, sent = taken_apart(SENT[name])
    predictor = Predictor(model)
    app = application(predictor, "shapes")
    status, body, answered = asyncio.run(exchanged(app, path, sent, headers))
    assert status == 200, body
    assert (answered.get(JSON_SIZE.lower()) is not None) == binary
    found = tensors(body, answered)
    assert found.keys() == outputs
    threshold = 0.6 if b"threshold" in sent else None
    rows, known = predictor.answers(PICTURES, threshold=threshold)
    expected = {"probabilities": rows, "labels": [predictor.labels[i] for i in rows.argmax(1)], "known": known}
    for output, values in found.items():
        np.testing.assert_array_equal(values, np.asarray(expected[output]))


def test_labels_of_any_alphabet_are_measured_in_bytes() -> None:
    class Foreign(Judge):
        labels = ("ant", "кіт")

    path, headers, sent = taken_apart(SENT["all binary"])
    app = served(Foreign())
    _, body, answered = asyncio.run(exchanged(app, path.replace("shapes", "m"), sent, headers))
    assert tensors(body, answered)["labels"].tolist() == ["кіт", "кіт"]


def request(
    tensor: dict[str, Any], *, size: int | str | None = None, rest: bytes = b"", **more: Any
) -> tuple[int, str]:
    """The status of an inference with this input and these bytes behind the JSON, and the refusal's sentence."""
    text = json.dumps({"inputs": [tensor], **more}).encode()
    headers = {**OURS, JSON_SIZE.lower(): str(len(text) if size is None else size)}
    status, body, _ = asyncio.run(exchanged(served(), INFER, text + rest, headers))
    return status, "" if status == 200 else json.loads(body)["error"]


@pytest.mark.parametrize(
    ("tensor", "rest", "reason"),
    [
        ({"parameters": {"binary_data_size": 119}}, 119, "expected 120, one byte for each number, found 119"),
        ({"parameters": {"binary_data_size": 120}}, 119, "has 120 bytes, but 119 follow the JSON"),
        ({"parameters": {"binary_data_size": 120}}, 121, "1 bytes more follow the JSON"),
        ({"parameters": {"binary_data_size": -1}}, 0, "not an inference request"),
        ({"parameters": {"binary_data_size": "120"}}, 120, "not an inference request"),
        ({"parameters": {"binary_data_size": 120.5}}, 120, "not an inference request"),
        ({"parameters": {"binary_data_size": 10**40}}, 120, "follow the JSON"),
        ({"parameters": {"binary_data_size": 120}, "data": [0] * 120}, 120, "needs data or binary_data_size, not both"),
        ({"parameters": {}}, 120, "needs data or binary_data_size"),
        ({"parameters": {"binary_data_size": 120}, "shape": [2**14, 2**14, 2**14, 3]}, 120, "expected at most 1,024"),
        ({"parameters": {"binary_data_size": 120}, "datatype": "FP32"}, 120, "of datatype UINT8"),
        ({"data": [0] * 120}, 3, "3 bytes more follow the JSON"),
    ],
)
def test_bytes_that_do_not_fit_are_refused_with_a_sentence(tensor: dict[str, Any], rest: int, reason: str) -> None:
    status, said = request({**IMAGES, **tensor}, rest=bytes(rest))
    assert status == 400
    assert reason in said


@pytest.mark.parametrize("size", ["", "-1", "1e3", "0x10", "9" * 5000, "99999999", "\u00b2"])
def test_a_length_of_the_json_that_is_none_is_refused(size: str) -> None:
    text = json.dumps({"inputs": [{**IMAGES, "parameters": {"binary_data_size": 120}}]}).encode()
    headers = {**OURS, JSON_SIZE.lower(): size}
    status, body, _ = asyncio.run(exchanged(served(), INFER, text + bytes(120), headers))
    assert status == 400, body


def test_binary_data_need_the_header() -> None:
    tensor = {**IMAGES, "parameters": {"binary_data_size": 120}}
    status, body, _ = asyncio.run(exchanged(served(), INFER, json.dumps({"inputs": [tensor]}).encode()))
    assert status == 400
    assert "follow the JSON, whose length the header Inference-Header-Content-Length gives" in json.loads(body)["error"]


def test_an_octet_stream_is_taken_only_with_the_header() -> None:
    tensor = {**IMAGES, "parameters": {"binary_data_size": 120}}
    text = json.dumps({"inputs": [tensor]}).encode()
    kind = {**OURS, "content_type": "application/octet-stream"}
    assert asyncio.run(exchanged(served(), INFER, text, kind))[0] == 415
    headers = {**kind, JSON_SIZE.lower(): str(len(text))}
    assert asyncio.run(exchanged(served(), INFER, text + bytes(120), headers))[0] == 200


@pytest.mark.parametrize(
    ("asked", "binary"),
    [
        ({}, set()),
        ({"parameters": {"binary_data_output": True}}, {"probabilities", "labels", "known"}),
        ({"outputs": [{"name": "known", "parameters": {"binary_data": True}}, {"name": "labels"}]}, {"known"}),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "known", "parameters": {"binary_data": False}}, {"name": "labels"}],
            },
            {"labels"},
        ),
    ],
    ids=["JSON by default", "all", "one", "all but one"],
)
def test_an_output_is_binary_if_the_request_says_so(asked: dict[str, Any], binary: set[str]) -> None:
    text = json.dumps({"inputs": [{**IMAGES, "data": PICTURES.ravel().tolist()}], **asked}).encode()
    status, body, headers = asyncio.run(exchanged(served(), INFER, text))
    assert status == 200
    said = json.loads(body[: int(headers.get(JSON_SIZE.lower(), len(body)))])
    assert {output["name"] for output in said["outputs"] if "parameters" in output} == binary
    assert tensors(body, headers)


def test_pictures_behind_the_json_are_not_copied() -> None:
    import tracemalloc

    from fewshot_sdk.web.inference import inference_request, pixels

    shape = [4, 512, 512, 3]
    text = json.dumps({"inputs": [{**IMAGES, "shape": shape, "parameters": {"binary_data_size": 4 * 512 * 512 * 3}}]})
    sent = text.encode() + bytes(4 * 512 * 512 * 3)
    inference_request(sent, len(text))  # imports and caches are not counted
    tracemalloc.start()
    try:
        assert pixels(inference_request(sent, len(text)).pictures, (-1, -1, 3)).shape == tuple(shape)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
