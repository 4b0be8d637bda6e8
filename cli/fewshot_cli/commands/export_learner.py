"""`fewshot export-learner`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Init, Json
from fewshot_cli.output import emit_json, say
from fewshot_sdk.storage.files import check_free_file


@app.command("export-learner")
def export_learner(
    init: Init,
    output: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    json: Json = False,
) -> None:
    """Export an initialization to one ONNX file that adapts and classifies, checked against PyTorch."""
    check_free_file(output)
    import fewshot_sdk as sdk

    made = sdk.export_learner(sdk.load(init), output)
    said = made.metadata
    if json:
        emit_json({"output": str(output), "bytes": made.size, **said.model_dump(mode="json")})
    say(
        f"wrote {output}, {made.size / 1000:,.0f} kB; after up to 20 steps on {said.parity.images} made-up queries "
        f"it differs from PyTorch in float64 by at most {said.parity.max_difference:.1e} "
        f"(PyTorch in float32: {said.noise_floor:.1e})"
    )
    say(f"next: fewshot adapt --engine onnx --init {output} --support DIR --output model.onnx")
