"""Inference requests: KServe V2's JSON, whose values are checked before they become an array, and binary tensors.

Source: the binary tensor data extension, github.com/kserve/open-inference-protocol, `binary_data_extension.md`.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic_core import from_json

from fewshot_sdk.config.onnx_file import INPUT, KNOWN, OUTPUT, THRESHOLD
from fewshot_sdk.config.recipe import Config, Listed
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.images.decoding import MAX_SIDE
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.web.limits import Refused
from fewshot_sdk.web.results import DATATYPES

MOST = 1024  # pictures in a request
OUTPUTS = tuple(DATATYPES)
_FEW = 16  # inputs, outputs or dimensions: far more than any request needs
_PART = 2**16  # values checked at a time, so that other threads, the event loop's too, get their turn
_BINARY = {(True, True), (True, False), (None, True)}  # what an output says, and what the request says
_FOLLOW = "follow the JSON, whose length the header Inference-Header-Content-Length gives"
_NOT_NUMBERS = "data: expected numbers, flat or nested evenly"


class Parameters(Config):
    """The parameters that the extension for binary tensors adds; all others are ignored.

    binary_data_size: of an input: its bytes behind the JSON; binary_data: of an output: send it as bytes;
    binary_data_output: of a request: the same for every output that does not say.
    """

    model_config = ConfigDict(extra="ignore")
    binary_data_size: Annotated[int, Field(ge=0)] | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False


class TensorIn(Config):
    """One input of an inference request; data: JSON's values, or the bytes behind the JSON."""

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)
    name: str
    shape: Annotated[Listed[int], Field(max_length=_FEW)]
    datatype: str
    data: list[Any] | memoryview | None = None
    parameters: Parameters = Parameters()


class TensorOut(Config):
    """An output that the request asks for."""

    model_config = ConfigDict(extra="ignore")
    name: str
    parameters: Parameters = Parameters()


class InferenceRequest(Config):
    """The body of an inference request; the protocol's other fields are ignored."""

    model_config = ConfigDict(extra="ignore")
    id: str | None = None
    inputs: Listed[TensorIn] = Field(min_length=1, max_length=_FEW)
    outputs: Annotated[Listed[TensorOut], Field(max_length=_FEW)] | None = None
    parameters: Parameters = Parameters()

    @property
    def pictures(self) -> tuple[TensorIn, ...]:
        """The inputs but the threshold."""
        return tuple(tensor for tensor in self.inputs if tensor.name != THRESHOLD)

    @property
    def threshold(self) -> float | None:
        """The value of the optional input `threshold`; None without it. Raises Refused if it is not from 0 to 1."""
        given = [tensor for tensor in self.inputs if tensor.name == THRESHOLD]
        if not given:
            return None
        (tensor, *others) = given
        found: list[Any] = tensor.data if isinstance(tensor.data, list) else []
        if isinstance(tensor.data, memoryview) and len(tensor.data) == 4:
            found = np.frombuffer(tensor.data, "<f4").tolist()
        fits = tensor.datatype == "FP32" and tensor.shape in ((), (1,)) and len(found) == 1
        if others or not fits or type(found[0]) not in (int, float) or not 0 <= found[0] <= 1:
            raise Refused(400, f"expected one input {THRESHOLD!r} of datatype FP32, a single number from 0 to 1")
        return float(found[0])

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of the requested outputs, all by default. Raises Refused for a name that is none of them."""
        names = tuple(output.name for output in self.outputs or ()) or OUTPUTS
        if odd := sorted({*names} - {*OUTPUTS}):
            raise Refused(400, f"no output {odd[0]!r}; the outputs are {OUTPUT}, labels and {KNOWN}")
        return names

    @property
    def binary(self) -> frozenset[str]:
        """The names of the outputs that the request wants as bytes."""
        said = {output.name: output.parameters.binary_data for output in self.outputs or ()}
        return frozenset(name for name in OUTPUTS if (said.get(name), self.parameters.binary_data_output) in _BINARY)


def inference_request(body: bytes, json_size: int | None = None) -> InferenceRequest:
    """The request in a body. Raises Refused if it is not an inference request.

    json_size: the length of the JSON at the beginning, if the inputs' bytes follow it; they are not copied.
    """
    request = _parsed(body if json_size is None else body[:json_size])
    rest = memoryview(body)[len(body) if json_size is None else json_size :]
    inputs = []
    for tensor in request.inputs:
        size = tensor.parameters.binary_data_size
        if (size is None) == (tensor.data is None):
            raise Refused(
                400, f"not an inference request: input {tensor.name!r} needs data or binary_data_size, not both"
            )
        if size is not None:
            if size > len(rest):
                raise Refused(
                    400, f"binary_data_size: input {tensor.name!r} has {size} bytes, but {len(rest)} {_FOLLOW}"
                )
            tensor, rest = tensor.model_copy(update={"data": rest[:size]}), rest[size:]
        inputs.append(tensor)
    if len(rest):
        raise Refused(400, f"binary_data_size: {len(rest)} bytes more {_FOLLOW} than the inputs have")
    return request.model_copy(update={"inputs": tuple(inputs)})


def _parsed(body: bytes) -> InferenceRequest:
    collecting = gc.isenabled()
    gc.disable()  # millions of new lists trigger it again and again, and all threads wait three times as long
    try:  # parse to Python objects first: pydantic's own JSON reader takes five times the memory
        return InferenceRequest.model_validate(from_json(body, allow_inf_nan=False))
    except (ConfigError, ValueError) as error:
        raise Refused(400, f"not an inference request: {error}") from None
    finally:
        if collecting:
            gc.enable()


def pixels(inputs: Sequence[TensorIn], size: tuple[int, int, int]) -> Pixels:
    """The pictures, uint8 (n, *size), of a request's one input; -1 in `size` means any. Raises Refused for others."""
    (tensor, *others) = inputs or (None,)
    if tensor is None or others or tensor.name != INPUT or tensor.datatype != "UINT8":
        found = ", ".join(f"{i.name!r} of {i.datatype}" for i in inputs)
        raise Refused(400, f"expected one input {INPUT!r} of datatype UINT8, found {found}")
    shape = tensor.shape
    fits = len(shape) == 4 and all(want in (-1, side) for want, side in zip(size, shape[1:], strict=True))
    if not fits or min(shape) < 1 or max(shape[1:]) > MAX_SIDE:
        expected = ", ".join(f"1 to {MAX_SIDE}" if side < 0 else str(side) for side in size)
        raise Refused(400, f"expected shape [n, {expected}], found {list(shape)}")
    if shape[0] > MOST:
        raise Refused(400, f"expected at most {MOST:,} pictures at once, found {shape[0]:,}; send them in parts")
    n = math.prod(shape)
    if isinstance(tensor.data, memoryview):
        if len(tensor.data) != n:
            raise Refused(400, f"binary_data_size: expected {n}, one byte for each number, found {len(tensor.data)}")
        return np.frombuffer(tensor.data, np.uint8).reshape(shape)
    return _octets(_flat(tensor.data or []), n).reshape(shape)


def _flat(values: list[Any]) -> list[int | float]:
    """The numbers of a flat list or of evenly nested lists. Raises Refused for anything else."""
    while (kinds := _union(map(type, part) for part in _parts(values))) == {list}:
        if len(_union(map(len, part) for part in _parts(values))) > 1:
            raise Refused(400, _NOT_NUMBERS)
        inner: list[Any] = []
        for part in _parts(values):
            inner.extend(chain.from_iterable(part))
        values = inner
    if not kinds <= {
        int,
        float,
    }:  # numpy takes True for an int, and one string among numbers turns all into long strings
        raise Refused(400, _NOT_NUMBERS)
    return values


def _octets(values: list[int | float], n: int) -> NDArray[np.uint8]:
    wrong = Refused(400, f"data: expected {n} whole numbers from 0 to 255")
    if len(values) != n:
        raise wrong
    octets = np.empty(n, np.uint8)
    for i, part in enumerate(_parts(values)):
        try:
            floats = np.fromiter(part, np.float64, len(part))
        except OverflowError:  # an int past the largest float
            raise Refused(400, _NOT_NUMBERS) from None
        if not ((floats >= 0) & (floats <= 255) & (floats == np.floor(floats))).all():
            raise wrong
        octets[i * _PART : i * _PART + len(part)] = floats
    return octets


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    return (values[i : i + _PART] for i in range(0, len(values), _PART))


def _union(parts: Iterable[Iterable[Any]]) -> set[Any]:
    union: set[Any] = set()
    for part in parts:
        union.update(part)
    return union
