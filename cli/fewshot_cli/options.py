"""Options and arguments that several commands share, and commands whose options are one dataclass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from fewshot_sdk.algorithms import Part

T = TypeVar("T")

# What `--help` lists options under, after those that name nothing.
DATA, LEARNING, RUNNING, WRITING = "Data", "Learning", "Running", "Writing"


def options(kind: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Makes a command of a function of one dataclass: its fields, annotated for typer, are the command's options."""
    hints = get_type_hints(kind, include_extras=True)
    taken = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)  # type: ignore[arg-type]
    ]

    def expanded(command: Callable[[T], None]) -> Callable[..., None]:
        def call(**given: Any) -> None:
            command(kind(**given))

        call.__name__, call.__doc__ = command.__name__, command.__doc__
        call.__signature__ = Signature(taken)  # type: ignore[attr-defined]
        return call

    return expanded


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise typer.BadParameter(f"expected auto, or a number from 1, found {text!r}")
    return int(text)


INIT_HELP = "A bundled initialization's name, a folder, or user/repo[@revision] on the Hugging Face Hub."

Init = Annotated[str, typer.Argument(help=INIT_HELP, metavar="INIT")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Labels = Annotated[
    Literal["folder", "name"],
    typer.Option(help="name: all pictures in one folder, named such as cat_001.jpg."),
]
Base = Annotated[
    str | None,
    typer.Option(help="The initialization that a delta is on. Default: the one it names.", show_default=False),
]
Vendor = Annotated[
    Path | None,
    typer.Option(
        help="Folder dist of the npm package onnxruntime-web, to be copied beside the page, which then needs no "
        "other host. Default: the page fetches it from a public CDN and checks its hash.",
        show_default=False,
    ),
]
ClassesOf = Annotated[
    Literal["test", "val", "train"],
    typer.Option(help="Which classes of its split; only mini-imagenet has val.", rich_help_panel=DATA),
]
Root = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the data set's zips. Default: FEWSHOT_DATA, else a download.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Trainable = Annotated[
    Part | None,
    typer.Option(
        help="What gradient steps move; norm: the normalization layers' scales and shifts, and the head. Default: all, "
        "or what the initialization or the algorithm says.",
        show_default=False,
        rich_help_panel=LEARNING,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="What all random choices come from.", rich_help_panel=RUNNING)]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        parser=_workers,
        metavar="auto|N",
        help="Processes that share the tasks. auto, the default: one per core, one alone if the job is short.",
        show_default=False,
        rich_help_panel=RUNNING,
    ),
]
