"""Options and arguments shared by several commands, and commands whose options are a dataclass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from fewshot_sdk.algorithms import Part

T = TypeVar("T")

# The panels of `--help`, after the options without one.
DATA, LEARNING, RUNNING, WRITING = "Data", "Learning", "Running", "Writing"


def options(kind: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Turn a function of one dataclass into a command; the fields, annotated for typer, become its options."""
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
        raise typer.BadParameter(f"expected auto or a positive integer, found {text!r}")
    return int(text)


INIT_HELP = "A bundled initialization's name, a folder, or user/repo[@revision] on the Hugging Face Hub."

Init = Annotated[str, typer.Argument(help=INIT_HELP, metavar="INIT")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Labels = Annotated[
    Literal["folder", "name"],
    typer.Option(help="folder: one folder per class; name: one for all, with file names such as cat_001.jpg."),
]
Base = Annotated[
    str | None,
    typer.Option(help="Initialization to which a delta belongs. Default: the one it names.", show_default=False),
]
Opset = Annotated[
    int,
    typer.Option(
        min=15, max=23, help="Version of the ONNX operators; lower for older onnxruntimes.", rich_help_panel=WRITING
    ),
]
IrVersion = Annotated[
    int | None,
    typer.Option(
        min=8, max=13, help="Version of the ONNX format. Default: the lowest for the opset, 9 for 20.",
        rich_help_panel=WRITING,
    ),
]  # fmt: skip
Vendor = Annotated[
    Path | None,
    typer.Option(
        help="Folder dist of the npm package onnxruntime-web, to copy next to the page so that it needs no other host. "
        "Default: the page fetches it from a public CDN and checks its hash.",
        show_default=False,
    ),
]
ClassesOf = Annotated[
    Literal["test", "val", "train"],
    typer.Option(
        help="Classes to draw from, by the data set's split; only mini-imagenet and your own data may have val.",
        rich_help_panel=DATA,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the data set's files. Default: its folder in $FEWSHOT_DATA, else a download.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
SkipSmall = Annotated[
    bool,
    typer.Option(
        "--skip-small",
        help="Leave out those of your own classes that have fewer pictures than a task takes, and name them.",
        rich_help_panel=DATA,
    ),
]
TestData = Annotated[
    str | None,
    typer.Option(
        help="omniglot, mini-imagenet or glyphs, or the path of your own classes: a folder, zip or CSV. Default: what "
        "it was trained on, or the first of them was.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Trainable = Annotated[
    Part | None,
    typer.Option(
        help="Parameters that gradient steps change; norm: scales and shifts of the normalization layers, and the "
        "head; tail: the last layers of an EfficientNet such as photo, and the head. "
        "Default: all, or what the initialization or the algorithm prescribes.",
        show_default=False,
        rich_help_panel=LEARNING,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        show_default=False,
        help="Change a setting of the recipe, after all other options, such as inner.learning_rate=0.002; may be "
        "repeated.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.", rich_help_panel=RUNNING)]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        parser=_workers,
        metavar="auto|N",
        help="Worker processes that share the tasks. Default: auto, one per core; a single one if the job is short.",
        show_default=False,
        rich_help_panel=RUNNING,
    ),
]
