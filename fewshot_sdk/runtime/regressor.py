"""`NumberPredictor`: runs an exported regressor with onnxruntime and numpy; no PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.regression import NumberMetadata
from fewshot_sdk.errors import BundleError, ConfigError, SupportError
from fewshot_sdk.runtime.session import Model, opened

INPUT, OUTPUT = "x", "y"


class NumberPredictor:
    """A regressor from a file written by `fewshot export`, or from that file's bytes.

    Raises BundleError if the file is not ONNX, or not a regressor written by fewshot-sdk.
    """

    def __init__(self, model: Model, *, threads: int = 1) -> None:
        file = opened(model, threads)
        self._session, name, stored = file.session, file.name, file.metadata
        self._name = name
        try:
            self.metadata = NumberMetadata.from_json(stored or "")
        except ConfigError:
            raise BundleError(
                f"{name} is not a regressor; `fewshot export` writes one from a model adapted to a CSV of numbers"
            ) from None
        takes = [(each.name, each.type, each.shape[1:]) for each in self._session.get_inputs()]
        gives = [(each.name, each.type) for each in self._session.get_outputs()]
        if (takes, gives) != ([(INPUT, "tensor(float)", [len(self.inputs)])], [(OUTPUT, "tensor(float)")]):
            raise BundleError(
                f"{name} takes {takes} and gives {gives}, which does not match its metadata; export it again"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the input columns."""
        return self.metadata.inputs

    @property
    def output(self) -> str:
        """The name of the predicted column."""
        return self.metadata.output

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output for each row: float32 (n, inputs) -> float32 (n,). Raises SupportError for other inputs."""
        if inputs.dtype != np.float32 or inputs.ndim != 2 or inputs.shape[1] != len(self.inputs):
            expected = f"float32 (n, {len(self.inputs)})"
            raise SupportError(f"inputs: expected {expected}, found {inputs.dtype} {inputs.shape}")
        (found,) = self._session.run([OUTPUT], {INPUT: inputs})
        if found.shape != (len(inputs),) or not np.isfinite(found).all():
            raise BundleError(
                f"{self._name}: expected {len(inputs)} finite numbers, found {found.dtype} {list(found.shape)}; export "
                "it again, or give it smaller numbers"
            )
        return np.asarray(found, np.float32)
