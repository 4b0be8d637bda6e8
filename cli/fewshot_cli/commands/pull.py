"""`fewshot pull`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Json
from fewshot_cli.output import emit_json, say


@app.command()
def pull(
    name: Annotated[
        str, typer.Argument(help="user/repo or user/repo@REVISION, where REVISION is a branch, a tag or a full commit.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="New folder for a copy. Default: only the cache.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Fetch an initialization from the Hugging Face Hub.

    Every file is checked; afterwards the initialization loads without a network.
    """
    import fewshot_sdk as sdk

    made = sdk.pull(name, output)
    if json:
        emit_json({"folder": str(made.folder), "source": made.source})
    say(f"pulled {made.source} to {made.folder}; every file matches the manifest")
    say(f"next: fewshot adapt --init {shlex.quote(str(output or made.source))} --support DIR --output DIR")
