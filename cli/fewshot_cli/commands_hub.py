"""`fewshot push`, `pull`, `models`, `info` and `verify`: initializations as things one shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Base, Json


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder of an initialization.", metavar="DIR")],
    name: Annotated[str, typer.Argument(help="The repository, user/repo; made if there is none.", metavar="REPO")],
    private: Annotated[bool, typer.Option("--private", help="Make it private, if it is made.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch to push to; made if there is none. Default: main.", show_default=False)
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    message: Annotated[str | None, typer.Option(help="What the commit says.", show_default=False)] = None,
    sign: Annotated[
        Path | None, typer.Option(help="Private key in PEM to sign with: adds model.sig.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Upload an initialization to the Hugging Face Hub."""
    from fewshot_cli import sharing

    sharing.push(
        folder, name, private=private, branch=revision, create_pr=create_pr, message=message, key=sign, json=json
    )


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="user/repo, or user/repo@REVISION: a branch, a tag or a full commit.")],
    output: Annotated[
        Path | None, typer.Option(help="New folder to put a copy in. Default: the cache alone.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Fetch an initialization from the Hugging Face Hub, every file checked; it then loads without a network."""
    from fewshot_cli import sharing

    sharing.pull(name, output, json)


@app.command()
def models(json: Json = False) -> None:
    """List the initializations: bundled, pulled, and those the Hub tags fewshot-sdk."""
    from fewshot_cli import sharing

    sharing.models(json)


@app.command()
def info(
    name: Annotated[
        str, typer.Argument(help="An initialization, a classifier's folder or an .onnx file.", metavar="INIT_OR_MODEL")
    ],
    json: Json = False,
) -> None:
    """Tell where something comes from: initialization, commit, data, command."""
    from fewshot_cli import sharing

    sharing.info(name, json)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of an initialization or a classifier.", metavar="DIR")],
    key: Annotated[
        Path | None, typer.Option(help="Public key in PEM, by which it must be signed.", show_default=False)
    ] = None,
    base: Base = None,
) -> None:
    """Check every file of a folder against its manifest, every tensor against its settings, and the signature."""
    from fewshot_cli import sharing

    sharing.verify(folder, key, base)
