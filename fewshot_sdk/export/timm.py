"""The body of a timm network as an ONNX graph, by PyTorch's own exporter; `graphs` writes only our own networks."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import onnx
import torch
from torch import Tensor, nn

from fewshot_sdk.config.onnx_file import FEATURES, PIXELS
from fewshot_sdk.errors import ExportError, MissingExtra


class _Features(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.body, self.even = network.get_submodule("body"), network.get_submodule("even")

    def forward(self, pixels: Tensor) -> Tensor:
        output: Tensor = self.even(self.body(pixels))
        return output


def timm_features(network: nn.Module, sides: tuple[int, int], opset: int) -> onnx.ModelProto:
    """The graph from `pixels`, float32 (batch, 3, height, width), normalized, to `features`, (batch, n_features).

    Raises MissingExtra without onnxscript, ExportError if PyTorch's exporter cannot do it.
    """
    if find_spec("onnxscript") is None:
        raise MissingExtra("exporting a timm model needs onnxscript; pip install 'fewshot-sdk[timm]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's warnings about its own code
        try:
            program = torch.onnx.export(
                _Features(network).eval(),
                (torch.zeros(2, 3, *sides),),
                dynamo=True,
                external_data=False,
                opset_version=opset,
                input_names=[PIXELS],
                output_names=[FEATURES],
                dynamic_shapes={PIXELS: {0: "batch"}},
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            raise ExportError(
                f"PyTorch's exporter cannot write this timm model as ONNX ({str(error).splitlines()[0][:300]}); "
                "use the classifier in PyTorch, or take another model"
            ) from None
    assert program is not None
    model = program.model_proto
    _remove_stack_traces(model)
    found = next((entry.version for entry in model.opset_import if entry.domain == ""), None)
    if found != opset or any(entry.domain for entry in model.opset_import):
        raise ExportError(f"PyTorch's exporter cannot write this timm model in opset {opset}; try --opset 20")
    return model


def _remove_stack_traces(model: onnx.ModelProto) -> None:
    """Remove the stack traces, with this machine's paths, that the exporter writes to every node."""
    for part in (
        model.graph.node,
        model.graph.value_info,
        model.graph.input,
        model.graph.output,
        model.graph.initializer,
    ):
        for entry in part:
            entry.ClearField("metadata_props")
    for whole in (model, model.graph):
        whole.ClearField("metadata_props")
        whole.ClearField("doc_string")
