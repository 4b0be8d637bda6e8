"""The options of `fewshot adapt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from fewshot_cli.options import INIT_HELP, LEARNING, RUNNING, WRITING, Json, Labels, Seed, Trainable

STARTING = "Other starting points"


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """Options of `fewshot adapt`; None means the default."""

    support: Annotated[
        Path,
        typer.Option(
            help="Folder or zip with a folder of pictures for each class, or a CSV of path and label. For an "
            "initialization for numbers, such as sine: a CSV of x and y. For features: a CSV of label and numbers, a "
            ".npz with features and labels, or a .npy with --labels."
        ),
    ]
    output: Annotated[Path, typer.Option(help="Folder to write the classifier to; with --engine onnx, an ONNX file.")]
    init: Annotated[
        str,
        typer.Option(
            help=f"{INIT_HELP} auto: the bundled ones for any number of classes. With --engine onnx: or a learner file."
        ),
    ] = "auto"
    one_class: Annotated[
        bool,
        typer.Option(
            "--one-class",
            help="Learn what good pictures look like, to tell others from them: --support is a folder of good "
            "pictures, or has a folder named good and others of bad pictures, which only set the limit.",
        ),
    ] = False
    label_from: Labels = "folder"
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out files that cannot be read, and say which, instead of stopping."),
    ] = False
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Text file with a label in each line, for features in a .npy.", metavar="FILE", show_default=False
        ),
    ] = None
    json: Json = False
    method: Annotated[
        Literal["auto", "prototypes", "probe", "reptile"] | None,
        typer.Option(
            help="auto compares the others by cross-validation; of those within one standard error of the best "
            "accuracy, it takes the one with the lowest log loss. Default: auto; with --steps, reptile.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="Gradient steps of reptile. Default: the initialization's.", rich_help_panel=LEARNING),
    ] = None
    reject_rate: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.99, rich_help_panel=LEARNING,
            help="Share of pictures of known classes that may be called unknown, or of good ones that may be called "
            "not good; 0: never. Default: 0.05.",
        ),
    ] = None  # fmt: skip
    trainable: Trainable = None
    extend: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a classifier to which --support adds classes or pictures.", rich_help_panel=STARTING
        ),
    ] = None
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Instead of --init: timm:NAME or timm:user/repo, a model of the timm library with weights from the "
            "Hub; needs fewshot-sdk[timm].",
            rich_help_panel=STARTING,
        ),
    ] = None
    keep_pictures: Annotated[
        bool,
        typer.Option(
            help="Keep small copies of the pictures in OUTPUT, to check exports and to extend the classifier.",
            rich_help_panel=WRITING,
        ),
    ] = True
    delta: Annotated[
        Literal["float32", "float16", "int8"] | None,
        typer.Option(
            help="Store the weights as their difference from the initialization: float32 is exact, float16 takes half "
            "and int8 a quarter of the space. Loading needs the initialization, too.",
            rich_help_panel=WRITING,
        ),
    ] = None
    engine: Annotated[
        Literal["torch", "onnx"],
        typer.Option(help="onnx needs no PyTorch; it takes --init and compares nothing.", rich_help_panel=RUNNING),
    ] = "torch"
    seed: Seed = 0
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print all that was compared and measured.", rich_help_panel=RUNNING)
    ] = False

    @property
    def start(self) -> str:
        """The name of the initialization or backbone."""
        return self.backbone or self.init

    @property
    def is_table(self) -> bool:
        """Whether the support set is a CSV; only a CSV can hold numbers."""
        return self.support.suffix.lower() == ".csv"
