"""`Nodes`: an ONNX graph built operator by operator; equal constants are stored once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fewshot_sdk.errors import ExportError
from fewshot_sdk.graphs.versions import OPSET, lowest_ir_version
from fewshot_sdk.nets.padding import same_padding

ROUND, GOING = "round", "going"  # a loop body's inputs: number of the round, int64 from 0; whether to go on


class Nodes:
    """A graph under construction: calling it adds an operator and returns the name of its result.

    outer: the graph of which this one is a loop body; the body can use its names.
    summarized: the layers that a network's features summarize over positions, in the features' order, for heat maps.
    """

    def __init__(self, outer: Nodes | None = None) -> None:
        self.summarized: list[str] = []
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[str] = []
        self._constants: dict[tuple[object, ...], onnx.TensorProto] = {} if outer is None else outer._constants
        self._count: list[int] = [0] if outer is None else outer._count

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The name of the result of an operator with one output."""
        return self.several(operator, 1, *inputs, **attributes)[0]

    def several(self, operator: str, n_outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """The names of the results of an operator with several outputs."""
        outputs = [self._name(operator.lower()) for _ in range(n_outputs)]
        # named, because older onnxruntimes name what they fuse after its parts and refuse a name that comes twice
        self._nodes.append(helper.make_node(operator, inputs, outputs, outputs[0], **attributes))
        return outputs

    def constant(self, value: object, dtype: type = np.float32) -> str:
        """The name of a constant array, stored in the file."""
        array: NDArray[Any] = np.array(value, dtype, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, self._name("constant"))
        return self._constants[key].name

    def integers(self, *values: int) -> str:
        """The name of a constant int64 vector, for shapes, axes or sides."""
        return self.constant(np.array(values, np.int64), np.int64)

    def scalar(self, value: float) -> str:
        """The name of a constant float32 scalar."""
        return self.constant(value)

    def output(self, result: str, name: str) -> None:
        """Make a result an output of the graph, by that name."""
        self._nodes.append(helper.make_node("Identity", [result], [name], name))

    def input(self) -> str:
        """Add a state to a loop body; its name inside, with the value at the beginning of a round."""
        self._inputs.append(self._name("state"))
        return self._inputs[-1]

    def loop(self, rounds: str, body: Nodes, starts: Sequence[str], ends: Sequence[str]) -> list[str]:
        """The states after `rounds` rounds of the body, which has one `input` for each state.

        starts: their initial values (floats); ends: the body's names for their values at the end of a round.
        """
        going = body("Identity", GOING)
        given = [_value(name, onnx.TensorProto.FLOAT, None) for name in body._inputs]
        graph = helper.make_graph(
            body._nodes,
            "body",
            [_value(ROUND, onnx.TensorProto.INT64, []), _value(GOING, onnx.TensorProto.BOOL, []), *given],
            [_value(going, onnx.TensorProto.BOOL, []), *(_value(end, onnx.TensorProto.FLOAT, None) for end in ends)],
        )
        return self.several("Loop", len(starts), rounds, "", *starts, body=graph)

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        defaults: dict[str, NDArray[Any]] | None = None,
        opset: int = OPSET,
    ) -> onnx.ModelProto:
        """The whole model, checked. defaults: values of optional inputs.

        Raises ExportError if it is not valid ONNX.
        """
        given = [numpy_helper.from_array(np.asarray(array), name) for name, array in (defaults or {}).items()]
        graph = helper.make_graph(
            self._nodes, "fewshot", list(inputs), list(outputs), [*given, *self._constants.values()]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="fewshot-sdk")
        model.ir_version = lowest_ir_version(opset)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(
                f"the graph is not valid ONNX ({str(error).splitlines()[0]}); check the version of onnx"
            ) from None
        return model

    def _name(self, stem: str) -> str:
        self._count[0] += 1
        return f"{stem}_{self._count[0]}"


def value(name: str, kind: type, *sizes: int | str) -> onnx.ValueInfoProto:
    """An input or output of a graph; a free dimension has a name instead of a size."""
    return _value(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), sizes)


def pads(sides: Sequence[int], size: int, stride: int) -> list[int]:
    """The "same" padding of images, (height, width), for square kernels: top, left, bottom, right."""
    before, after = zip(*(same_padding(side, size, stride) for side in sides), strict=True)
    return [*before, *after]


def _value(name: str, kind: int, sizes: Sequence[int | str] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)
