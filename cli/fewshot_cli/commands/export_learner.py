"""`fewshot export-learner`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Init, IrVersion, Json, Opset
from fewshot_cli.output import emit_json, say
from fewshot_sdk.storage.files import check_free_file


@app.command("export-learner")
def export_learner(
    init: Init,
    output: Annotated[Path, typer.Option(help="ONNX file to write.")],
    json: Json = False,
    opset: Opset = 20,
    ir_version: IrVersion = None,
) -> None:
    """Export an initialization as an ONNX file that adapts.

    The file adapts and classifies without PyTorch; it is kept only if it agrees with PyTorch.
    """
    check_free_file(output)
    import fewshot_sdk as sdk

    made = sdk.export_learner(sdk.load(init), output, opset=opset, ir_version=ir_version)
    metadata = made.metadata
    if json:
        emit_json({"output": str(output), "bytes": made.size, **metadata.model_dump(mode="json")})
    say(
        f"wrote {output}, {made.size / 1000:,.0f} kB; after up to 20 steps on {metadata.parity.images} random queries "
        f"it differs from PyTorch in float64 by at most {metadata.parity.max_difference:.1e} "
        f"(PyTorch in float32: {metadata.noise_floor:.1e})"
    )
    say(f"next: fewshot adapt --engine onnx --init {shlex.quote(str(output))} --support DIR --output model.onnx")
