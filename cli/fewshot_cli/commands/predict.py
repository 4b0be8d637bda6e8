"""`fewshot predict`: a folder is run by PyTorch, a file by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, runtime_checkable

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Base, Json
from fewshot_cli.output import emit, emit_json
from fewshot_sdk.errors import SupportError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fewshot_sdk.artifacts.classifier import Classifier
    from fewshot_sdk.runtime.predictor import Predictor


@runtime_checkable
class Curve(Protocol):
    """A model of numbers: a Regressor or a NumberPredictor, which are told apart from others without PyTorch."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the columns that it takes."""

    @property
    def output(self) -> str:
        """The name of the column that it predicts."""

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output for each row of inputs."""


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file, or a folder made by `fewshot adapt`.")],
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures to classify; for a model of numbers, numbers (after -- if one is negative) or CSVs of them.",
            metavar="IMAGE...",
        ),
    ],
    base: Base = None,
    json: Json = False,
) -> None:
    """Say what is in pictures, or what follows from numbers. An .onnx file needs no PyTorch."""
    if model.is_dir():
        from fewshot_sdk.artifacts.opening import open_model

        opened: Classifier | Predictor | Curve = open_model(model, base)
    else:
        from fewshot_sdk.runtime.opening import open_predictor

        opened = open_predictor(model)
    if isinstance(opened, Curve):
        _of_numbers(opened, model, images, json)
    else:
        _of_pictures(opened, images, json)


def _of_pictures(model: Classifier | Predictor, images: Sequence[Path], json: bool) -> None:
    found = model.predict(images)
    if json:
        emit_json([{"image": str(image), **asdict(said)} for image, said in zip(images, found, strict=True)])
        return
    width = max(len(str(image)) for image in images)
    for image, said in zip(images, found, strict=True):
        if said.label is None:
            emit(f"{image!s:<{width}}  unknown (nearest: {said.nearest} {said.probability:.1%})")
        else:
            emit(f"{image!s:<{width}}  {said.label}  {said.probability:.1%}")


def _of_numbers(model: Curve, name: Path, words: Sequence[Path], json: bool) -> None:
    """Prints the inputs and what the model in `name` says of them, as a CSV or as JSON."""
    import numpy as np

    from fewshot_sdk.images.tables import read_numbers

    inputs, output = model.inputs, model.output
    parts = []
    for word in words:
        row = _row(str(word))
        if row is None and word.suffix.lower() != ".csv":
            raise SupportError(
                f"{word}: expected a number or a .csv, for {name} predicts {output} from {', '.join(inputs)}"
            )
        if row is not None and len(row) != len(inputs):
            raise SupportError(f"{word}: expected {len(inputs)} numbers with commas between: {', '.join(inputs)}")
        parts.append(read_numbers(word, inputs) if row is None else np.array([row], np.float32))
    rows = np.concatenate(parts)
    found = [[*map(float, row), float(value)] for row, value in zip(rows, model.predict(rows), strict=True)]
    columns = (*inputs, output)
    if json:
        emit_json([dict(zip(columns, row, strict=True)) for row in found])
        return
    emit("\n".join([",".join(columns), *(",".join(f"{value:.7g}" for value in row) for row in found)]))


def _row(word: str) -> list[float] | None:
    """The numbers that a word is, with commas between; None if it is none."""
    from fewshot_sdk.images.tables import number

    try:
        return [number(part) for part in word.split(",")]
    except ValueError:
        return None
