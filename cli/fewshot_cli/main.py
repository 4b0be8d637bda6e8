"""The `fewshot` command: parses arguments, calls the library, prints the results."""

from __future__ import annotations

import atexit
import gc
from typing import Annotated

import typer

import fewshot_sdk

# In the order of --help.
from fewshot_cli.commands import adapt, doctor, export, edit, export_learner, predict, test, serve  # isort: skip
from fewshot_cli.commands import studio, demo  # isort: skip
from fewshot_cli.commands import push, pull, models, info, verify  # isort: skip
from fewshot_cli.commands import recipe, meta_train, runs, evaluate, compare, reproduce  # isort: skip
from fewshot_cli.group import DEBUG, app
from fewshot_cli.output import emit

atexit.register(
    gc.freeze
)  # otherwise Python searches all of PyTorch's objects for garbage at exit, for a third of a second

__all__ = [
    "adapt", "app", "compare", "demo", "doctor", "edit", "evaluate", "export", "export_learner", "info",
    "meta_train", "models", "predict", "pull", "push", "recipe", "reproduce", "runs", "serve", "studio", "test",
    "verify",
]  # fmt: skip


def _show_version(requested: bool) -> None:
    if requested:
        emit(fewshot_sdk.__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback when a command fails.")] = False,
) -> None:
    """Few-shot learning: take or meta-train an initialization, adapt it to your pictures, export, predict."""


if __name__ == "__main__":
    app()
