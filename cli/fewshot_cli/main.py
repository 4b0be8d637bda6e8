"""The `fewshot` command: parses, calls the library's public names, prints what comes back."""

from __future__ import annotations

import atexit
import gc
from typing import Annotated

import typer

import fewshot_sdk

# In the order in which --help lists them.
from fewshot_cli.commands import adapt, doctor, export, export_learner, predict, serve, demo  # isort: skip
from fewshot_cli.commands import push, pull, models, info, verify  # isort: skip
from fewshot_cli.commands import meta_train, evaluate, compare, reproduce  # isort: skip
from fewshot_cli.group import DEBUG, app
from fewshot_cli.output import emit

atexit.register(gc.freeze)  # else Python looks for garbage among all of PyTorch as it ends, for a third of a second

__all__ = [
    "adapt", "app", "compare", "demo", "doctor", "evaluate", "export", "export_learner", "info",
    "meta_train", "models", "predict", "pull", "push", "reproduce", "serve", "verify",
]  # fmt: skip


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
