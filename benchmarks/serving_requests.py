"""The three requests by which `fewshot serve` is asked for a picture: path, body and headers."""

from __future__ import annotations

import io
import json
from typing import TypeAlias

from PIL import Image

from fewshot_sdk.config.onnx_file import INPUT
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.web.results import JSON_SIZE

Request: TypeAlias = tuple[str, bytes, dict[str, str]]
_OCTETS = {"Content-Type": "application/octet-stream"}


def binary_tensor(model: str, picture: Pixels) -> Request:
    """A picture, uint8 (1, height, width, 3), as bytes behind the JSON, for an answer of the same kind."""
    head = {
        "inputs": [_tensor(picture) | {"parameters": {"binary_data_size": picture.size}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    return f"/v2/models/{model}/infer", text + picture.tobytes(), _OCTETS | {JSON_SIZE: str(len(text))}


def values(model: str, picture: Pixels) -> Request:
    """A picture as numbers in JSON."""
    text = json.dumps({"inputs": [_tensor(picture) | {"data": picture.ravel().tolist()}]}).encode()
    return f"/v2/models/{model}/infer", text, {"Content-Type": "application/json"}


def picture_file(picture: Pixels) -> Request:
    """A picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture[0]).save(file, "PNG")
    return "/predict", file.getvalue(), _OCTETS


def _tensor(picture: Pixels) -> dict[str, object]:
    return {"name": INPUT, "shape": list(picture.shape), "datatype": "UINT8"}
