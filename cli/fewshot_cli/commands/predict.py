"""`fewshot predict`: folders run in PyTorch, files in onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, runtime_checkable

import typer

from fewshot_cli.explanations import explain as explain_pictures
from fewshot_cli.group import app
from fewshot_cli.options import Base, Json
from fewshot_cli.output import emit, emit_json, say
from fewshot_sdk.errors import ConfigError, SupportError
from fewshot_sdk.storage.files import check_free

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fewshot_sdk.artifacts.classifier import Classifier
    from fewshot_sdk.runtime.predictor import Predictor


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


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file, or a folder made by `fewshot adapt`.")],
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures to classify; for a model of numbers, CSV files or numbers (after -- if one is negative).",
            metavar="IMAGE...",
        ),
    ],
    explain: Annotated[
        Path | None,
        typer.Option(
            help="New folder for each picture beside its heat map: where it speaks for its label, and against it. An "
            ".onnx file needs `fewshot export --heat-map`.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    base: Base = None,
    json: Json = False,
) -> None:
    """Classify pictures, or predict numbers from numbers. An .onnx file needs no PyTorch."""
    if explain is not None:
        check_free(explain)
    if model.is_dir():
        from fewshot_sdk.artifacts.opening import open_model

        opened: Classifier | Predictor | Curve = open_model(model, base)
    else:
        from fewshot_sdk.runtime.opening import open_predictor

        opened = open_predictor(model)
    if not isinstance(opened, Curve):
        _of_pictures(opened, images, explain, json)
    elif explain is None:
        _of_numbers(opened, model, images, json)
    else:
        raise ConfigError(f"{model} predicts numbers, and --explain is for pictures; leave it out")


def _of_pictures(model: Classifier | Predictor, images: Sequence[Path], folder: Path | None, json: bool) -> None:
    predictions = model.predict(images)
    maps = [] if folder is None else explain_pictures(model, images, predictions, folder)
    if json:
        rows = [{"image": str(image), **asdict(found)} for image, found in zip(images, predictions, strict=True)]
        emit_json([{**row, "heat_map": str(file)} for row, file in zip(rows, maps, strict=True)] if maps else rows)
        return
    width = max(len(str(image)) for image in images)
    for image, found in zip(images, predictions, strict=True):
        if found.label is None:
            emit(f"{image!s:<{width}}  unknown (nearest: {found.nearest} {found.probability:.1%})")
        else:
            emit(f"{image!s:<{width}}  {found.label}  {found.probability:.1%}")
    if folder is not None:
        say(f"wrote {folder}: {len(maps)} picture{'' if len(maps) == 1 else 's'} beside a heat map")


def _of_numbers(model: Curve, name: Path, arguments: Sequence[Path], json: bool) -> None:
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
