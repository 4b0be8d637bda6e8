"""Inference answers: KServe V2's JSON, and binary tensors behind it for the outputs that a request wants so.

Source: the Open Inference Protocol, `inference_rest.md` and `binary_data_extension.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.onnx_file import KNOWN, OUTPUT

JSON_SIZE = "Inference-Header-Content-Length"  # the header with the length of the JSON that bytes follow
LABELS = "labels"
DATATYPES = {OUTPUT: "FP32", LABELS: "BYTES", KNOWN: "BOOL"}

Result = NDArray[np.float32] | NDArray[np.bool_] | Sequence[str]


def inference_answer(
    head: Mapping[str, object], results: Mapping[str, Result], binary: frozenset[str]
) -> tuple[bytes, dict[str, str]]:
    """The body and headers of an answer with the `outputs` that `results` has by name, in their order.

    head: the answer's other fields; binary: the names of the outputs that follow as bytes.
    """
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for name, result in results.items():
        output: dict[str, Any] = {"name": name, "datatype": DATATYPES[name], "shape": list(np.shape(result))}
        if name in binary:
            blobs.append(_encoded(result))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            output["data"] = result.ravel().tolist() if isinstance(result, np.ndarray) else list(result)
        outputs.append(output)
    text = json.dumps({**head, "outputs": outputs}, ensure_ascii=False, separators=(",", ":")).encode()
    if not blobs:
        return text, {"Content-Type": "application/json"}
    return b"".join((text, *blobs)), {"Content-Type": "application/octet-stream", JSON_SIZE: str(len(text))}


def _encoded(result: Result) -> bytes:
    """Numbers little-endian; each text after its length, 32 bits."""
    if isinstance(result, np.ndarray):
        return result.astype(result.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [text.encode() for text in result]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
