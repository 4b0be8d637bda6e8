"""`fewshot push`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Json
from fewshot_cli.output import emit_json, say


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder of an initialization.", metavar="DIR")],
    name: Annotated[str, typer.Argument(help="Repository, user/repo; created if it does not exist.", metavar="REPO")],
    private: Annotated[bool, typer.Option("--private", help="If the repository is created, make it private.")] = False,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch to push to; created if it does not exist. Default: main.", show_default=False),
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    message: Annotated[str | None, typer.Option(help="Commit message.", show_default=False)] = None,
    sign: Annotated[
        Path | None, typer.Option(help="Private key (PEM) to sign with; adds model.sig.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Upload an initialization to the Hugging Face Hub."""
    import fewshot_sdk as sdk

    made = sdk.push(folder, name, private=private, branch=revision, create_pr=create_pr, message=message, key=sign)
    if json:
        emit_json(asdict(made))
    say(f"pushed {folder} as {made.source}{f', signed by {sign}' if sign else ''}; see {made.url}")
    say(f"next, on any machine: fewshot adapt --init {made.source} --support DIR --output DIR")
