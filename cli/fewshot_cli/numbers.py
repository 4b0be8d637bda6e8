"""What `fewshot predict` does with a model of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fewshot_cli.output import emit, emit_json
from fewshot_sdk.errors import SupportError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@runtime_checkable
class Curve(Protocol):
    """A model of numbers, a Regressor or a NumberPredictor; recognizing it does not import PyTorch."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the input columns."""

    @property
    def output(self) -> str:
        """The name of the predicted column."""

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output for each row of inputs: (n, inputs) -> (n,)."""


def predict_numbers(model: Curve, name: Path, arguments: Sequence[Path], json: bool) -> None:
    """Print the inputs and the predictions of the model in `name`, as CSV or as JSON."""
    import numpy as np

    from fewshot_sdk.images.tables import read_numbers

    inputs, output = model.inputs, model.output
    parts = []
    for argument in arguments:
        row = _row(str(argument))
        if row is None and argument.suffix.lower() != ".csv":
            raise SupportError(
                f"{argument}: expected a number or a .csv, because {name} predicts {output} from {', '.join(inputs)}"
            )
        if row is not None and len(row) != len(inputs):
            raise SupportError(
                f"{argument}: expected one value for each of {', '.join(inputs)}, separated by commas, found {len(row)}"
            )
        parts.append(read_numbers(argument, inputs) if row is None else np.array([row], np.float32))
    rows = np.concatenate(parts)
    found = [[*map(float, row), float(value)] for row, value in zip(rows, model.predict(rows), strict=True)]
    columns = (*inputs, output)
    if json:
        emit_json([dict(zip(columns, row, strict=True)) for row in found])
        return
    emit("\n".join([",".join(columns), *(",".join(f"{value:.7g}" for value in row) for row in found)]))


def _row(argument: str) -> list[float] | None:
    """The comma-separated numbers of an argument; None if it is something else."""
    from fewshot_sdk.images.tables import number

    try:
        return [number(part) for part in argument.split(",")]
    except ValueError:
        return None
