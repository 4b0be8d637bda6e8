"""Export of a regressor to one self-contained ONNX file, checked against PyTorch before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from fewshot_sdk.artifacts.regressor import Floats, Regressor
from fewshot_sdk.config.regression import REGRESSOR_FILE, NumberMetadata, NumberParity
from fewshot_sdk.errors import ParityError
from fewshot_sdk.export.checks import BATCHES, RANDOM, TOLERANCE
from fewshot_sdk.export.classifier import with_metadata
from fewshot_sdk.graphs.nodes import Nodes, value
from fewshot_sdk.graphs.versions import OPSET, at_versions, check_versions
from fewshot_sdk.runtime.regressor import INPUT, OUTPUT, NumberPredictor
from fewshot_sdk.storage.files import check_free_file, write_file
from fewshot_sdk.version import versions


@dataclass(frozen=True, kw_only=True)
class NumberExport:
    """An exported file: its path, its size in bytes and its metadata."""

    path: Path
    size: int
    metadata: NumberMetadata


def export_regressor(
    regressor: Regressor, path: str | Path, *, opset: int = OPSET, ir_version: int | None = None
) -> NumberExport:
    """Write a regressor as one ONNX file: `x` float32 (batch, inputs) in, `y` float32 (batch,) out.

    The file is kept only if onnxruntime agrees with PyTorch to 1e-4 (of the larger of 1 and the value) on the points it
    was adapted to and on 1,000 random ones over more than twice their range, in batches of 1, 2 and 7.
    Raises ParityError if it disagrees, ConfigError for an opset outside 15 to 23 or an IR version that does not go
    with it, OutputExists if `path` exists, SaveError if the disk refuses.
    """
    path = Path(path)
    check_free_file(path)
    check_versions(opset, ir_version)
    config = regressor.config
    metadata = NumberMetadata(
        format=REGRESSOR_FILE,
        inputs=config.inputs,
        output=config.output,
        adaptation=config.adaptation,
        initialization=config.initialization,
        opset=opset,
        parity=NumberParity(points=0),
        versions={**versions(), "onnx": onnx.__version__},
    )
    graph = at_versions(regressor_graph(regressor, opset), opset, ir_version)
    parity = check_numbers(regressor, NumberPredictor(with_metadata(graph, metadata)))
    metadata = metadata.replace(parity=parity)
    data = with_metadata(graph, metadata)
    write_file(path, data)
    return NumberExport(path=path, size=len(data), metadata=metadata)


def regressor_graph(regressor: Regressor, opset: int = OPSET) -> onnx.ModelProto:
    """The network as an ONNX graph."""
    g = Nodes()
    tensors = {name: tensor.numpy() for name, tensor in regressor.params.items()}

    def layer(x: str, name: str) -> str:
        return g("Gemm", x, *(g.constant(tensors[f"{name}.{part}"]) for part in ("weight", "bias")), transB=1)

    x = INPUT
    for i in range(1, len(regressor.config.network.widths) + 1):
        x = g("Tanh", layer(x, f"hidden{i}"))
    g.output(g("Squeeze", layer(x, "head"), g.integers(1)), OUTPUT)
    inputs = [value(INPUT, np.float32, "batch", len(regressor.config.inputs))]
    return g.model(inputs, [value(OUTPUT, np.float32, "batch")], opset=opset)


def check_numbers(regressor: Regressor, predictor: NumberPredictor) -> NumberParity:
    """Compare an export with PyTorch. Raises ParityError, naming the input, as `export_regressor` says."""
    points, worst = regressor.points[:, :-1], 0.0
    middle, reach = (points.min(0) + points.max(0)) / 2, np.ptp(points, 0) + 1
    spread = np.random.default_rng(0).uniform(-1, 1, (RANDOM, points.shape[1]))
    inputs: Floats = np.concatenate([points, (middle + spread * reach).astype(np.float32)])
    wanted = regressor.predict(inputs)
    for batch in BATCHES:
        found = np.concatenate([predictor.predict(inputs[i : i + batch]) for i in range(0, len(inputs), batch)])
        difference = np.abs(found - wanted)
        wrong = ~(difference <= TOLERANCE * np.maximum(1, np.abs(wanted)))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ParityError(
                f"onnxruntime and PyTorch disagree at {inputs[row].tolist()}, in batches of {batch}: they give "
                f"{found[row]:.7g} and {wanted[row]:.7g}; no file was written"
            )
        worst = max(worst, float(difference.max()))
    return NumberParity(points=len(points), random=RANDOM, batches=BATCHES, max_difference=worst)
