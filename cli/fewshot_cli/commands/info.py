"""`fewshot info`."""

from __future__ import annotations

from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Json
from fewshot_cli.output import emit, emit_json, on_one_line


@app.command()
def info(
    name: Annotated[
        str,
        typer.Argument(
            help="An initialization, a folder made by `fewshot adapt`, or an .onnx file.", metavar="INIT_OR_MODEL"
        ),
    ],
    json: Json = False,
) -> None:
    """Show where a model or an initialization comes from.

    Lists the initialization, its commit, the data and the command that made it.
    """
    from fewshot_sdk.runtime.lineage import lineage

    found = lineage(name)
    if json:
        adaptation = found.adaptation.model_dump(mode="json") if found.adaptation else None
        emit_json(
            {
                **{k: v for k, v in vars(found).items() if k in ("kind", "initialization", "sha256", "source", "seed")},
                "data": found.data,
                "labels": list(found.labels),
                "adaptation": adaptation,
                "provenance": found.provenance.model_dump(mode="json"),
                "edits": [edit.model_dump(mode="json") for edit in found.edits],
                "evaluations": [result.model_dump(mode="json") for result in found.evaluations],
                "chain": found.steps(),
            }
        )
        return
    for number, step in enumerate(found.steps()):
        emit(f"{'   ' * number}{'<- ' if number else ''}{on_one_line(step)}")
