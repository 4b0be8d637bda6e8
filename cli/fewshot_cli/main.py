"""The `fewshot` command: parses, calls the library's public names, prints what comes back."""

from __future__ import annotations

import atexit
import gc
from typing import Annotated

import typer

import fewshot_sdk

# In the order in which --help lists them.
from fewshot_cli import commands_classifier, commands_hub  # isort: skip
from fewshot_cli.commands import meta_train  # isort: skip
from fewshot_cli import commands_training  # isort: skip
from fewshot_cli.group import DEBUG, app
from fewshot_cli.output import emit

atexit.register(gc.freeze)  # else Python looks for garbage among all of PyTorch as it ends, for a third of a second

__all__ = ["app", "commands_classifier", "commands_hub", "commands_training", "meta_train"]


def _show_version(wanted: bool) -> None:
    if wanted:
        emit(fewshot_sdk.__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of a failure.")] = False,
) -> None:
    """Few-shot adaptation: meta-train or take an initialization, adapt it to your images, export, predict."""


if __name__ == "__main__":
    app()
