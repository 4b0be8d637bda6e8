"""`fewshot verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Base
from fewshot_cli.output import emit, say
from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.files import MANIFEST, SIGNATURE, read_folder


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of an initialization or a classifier.", metavar="DIR")],
    key: Annotated[
        Path | None,
        typer.Option(
            help="Public key (PEM) to check the signature with; the folder must be signed.", show_default=False
        ),
    ] = None,
    base: Base = None,
) -> None:
    """Check the files, tensors and signature of a folder.

    Every file must match the manifest, and every tensor must fit the settings.
    """
    from fewshot_sdk.artifacts.opening import read_artifact
    from fewshot_sdk.storage.repositories import Opened

    checked = read_folder(folder)
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in {*checked, MANIFEST})
    if "config.json" not in checked:
        raise BundleError(f"{folder}: its manifest lists no config.json; expected a folder made by `fewshot`")
    if key is not None:
        from fewshot_sdk.storage.signing import check

        check(checked, key, folder)
    found = read_artifact(Opened(files=checked, folder=folder), base)
    emit(f"{folder}: {len(checked)} files match the manifest and load")
    for edit in getattr(getattr(found, "config", None), "edits", ()):
        emit(f"{folder}: edited after it was adapted: {edit}")
    if key is not None:
        emit(f"{folder}: signed with the private key of {key}")
    elif SIGNATURE in checked:
        say(f"it is signed ({SIGNATURE}), but the signature was not checked; to check it, pass a public key with --key")
    if others:
        say(f"not in the manifest, therefore never read: {', '.join(others)}")
