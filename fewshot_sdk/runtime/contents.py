"""What an ONNX file would have onnxruntime do, read before it is opened; needs neither onnx nor onnxruntime.

Source of the field numbers: onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator

from fewshot_sdk.errors import BundleError

STEPS = "steps"  # a learner's input: how often its only loop runs

_Value = int | memoryview
# numbers of the fields: of a model, a graph, a node, an attribute and a tensor
_GRAPH, _FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _INPUT, _SPARSE = 1, 5, 11, 15
_INPUT_NAME = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND, _NODE_ATTRIBUTE = 1, 2, 4, 5
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE_TENSOR, _SPARSE_TENSORS = 5, 6, 10, 11, 22, 23
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_DEEPEST = 4  # graphs in graphs


def check_contents(data: bytes, name: str) -> None:
    """Raises BundleError for a file that does more than compute a bounded number of operations from its own bytes.

    That is one with loops or branches (but a learner's loop over its input `steps`), with functions, or with weights
    in another file. So is one that is not ONNX as onnx writes it: onnxruntime skips what it does not expect, such as a
    number in the place of a node, and would run what is not seen here.
    """
    try:
        parts = []
        for number, value in _fields(memoryview(data)):
            if number == _FUNCTIONS:
                raise BundleError(f"{name} defines functions of its own, which are not run; export it again")
            if number == _GRAPH:
                parts.append(_message(value))
        # a message in several parts is what they are together, as they follow each other
        graph = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
        _check_graph(graph, name, 0, learns=_is_asked_for_steps(graph))
    except _NotONNX:
        expected = "expected one made by `fewshot export` or `fewshot export-learner`"
        raise BundleError(f"{name} is not an ONNX file; {expected}") from None


class _NotONNX(Exception):
    """The bytes are no protocol buffer, or not one as onnx writes it."""


def _is_asked_for_steps(graph: memoryview) -> bool:
    """Whether `steps` comes from whoever runs the graph, and has no value in the file, which could be any number."""
    inputs = own = 0
    for number, value in _fields(graph):
        if number == _INPUT:
            inputs += _has_text(value, _INPUT_NAME, STEPS)
        elif number == _INITIALIZER:
            own += _has_text(value, _TENSOR_NAME, STEPS)
        elif number == _NODE:
            own += _has_text(value, _NODE_OUTPUT, STEPS)
    return inputs == 1 and not own


def _has_text(message: _Value, field: int, text: str) -> bool:
    fields = _fields(_message(message))
    return any(number == field and bytes(_message(value)) == text.encode() for number, value in fields)


def _check_graph(graph: memoryview, name: str, depth: int, *, learns: bool) -> None:
    if depth > _DEEPEST:
        raise _NotONNX
    for number, value in _fields(graph):
        if number == _NODE:
            _check_node(_message(value), name, depth, learns=learns)
        elif number == _INITIALIZER:
            _check_tensor(_message(value), name)
        elif number == _SPARSE:
            raise BundleError(f"{name} has sparse weights, which are not read; export it again")


def _check_node(node: memoryview, name: str, depth: int, *, learns: bool) -> None:
    inputs, kind, attributes = [], "", []
    for number, value in _fields(node):
        if number == _NODE_INPUT:
            inputs.append(bytes(_message(value)))
        elif number == _NODE_KIND:
            kind = bytes(_message(value)).decode(errors="replace")
        elif number == _NODE_ATTRIBUTE:
            attributes.append(_message(value))
    for attribute in attributes:
        for number, value in _fields(attribute):
            if number in (_TENSOR, _TENSORS):
                _check_tensor(_message(value), name)
            elif number in (_SPARSE_TENSOR, _SPARSE_TENSORS):
                raise BundleError(f"{name} has sparse weights, which are not read; export it again")
            elif number in (_SUBGRAPH, _SUBGRAPHS):
                if depth or not learns or kind != "Loop" or inputs[:2] != [STEPS.encode(), b""]:
                    raise BundleError(
                        f"{name} has a {kind[:40]!r} that may never end, which is not run; export it again"
                    )
                _check_graph(_message(value), name, depth + 1, learns=learns)


def _check_tensor(tensor: memoryview, name: str) -> None:
    for number, value in _fields(tensor):
        if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
            raise BundleError(f"{name} keeps weights in another file, which is not read; export it again as one file")


def _message(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise _NotONNX
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, _Value]]:
    """The fields of a protocol buffer: number and value, a whole number or bytes. Raises _NotONNX if it is none.

    Source: https://protobuf.dev/programming-guides/encoding/
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key >= 2**32:
            raise _NotONNX
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _NotONNX
        if length > len(message) - at:
            raise _NotONNX
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise _NotONNX
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
