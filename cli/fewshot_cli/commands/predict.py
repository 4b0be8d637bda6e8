"""`fewshot predict`: folders run in PyTorch, files in onnxruntime."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot_cli import features, inspecting
from fewshot_cli.answers import Answered, Show, json_lines, json_list, lines, table
from fewshot_cli.batch import Batch, pictures, reasons
from fewshot_cli.explanations import explain as explain_pictures
from fewshot_cli.group import app
from fewshot_cli.numbers import Curve, predict_numbers
from fewshot_cli.options import RUNNING, WRITING, Base, Json, options
from fewshot_cli.output import say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import check_free, check_free_file
from fewshot_sdk.storage.sorting import sorter

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.classifier import Classifier
    from fewshot_sdk.config.recipe import Rows
    from fewshot_sdk.images.listing import Listing
    from fewshot_sdk.runtime.predictions import Prediction
    from fewshot_sdk.runtime.predictor import Predictor
    from fewshot_sdk.runtime.streaming import Answer

WIDEST = 60  # characters of the column of names, beside which there is room for an answer


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Options of `fewshot predict`; None means that there is none."""

    model: Annotated[
        Path | None,
        typer.Argument(help="An exported .onnx file, or a folder made by `fewshot adapt`.", metavar="MODEL"),
    ] = None
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Pictures to classify, folders of pictures, patterns such as 'photos/**/*.jpg', or - for names from "
            "standard input; for a model of features, their .csv, .npy or .npz; for a model of numbers, CSV files or "
            "numbers (after -- if one is negative).",
            metavar="IMAGE...",
            readable=False,  # told of each picture
        ),
    ] = None
    explain: Annotated[
        Path | None,
        typer.Option(
            help="New folder for each picture beside its heat map: where it speaks for its label, and against it. An "
            ".onnx file needs `fewshot export --heat-map`.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None
    recursive: Annotated[bool, typer.Option("--recursive", help="Look into folders inside of folders, too.")] = False
    top: Annotated[
        int | None, typer.Option(min=1, help="How many of the most probable labels to show.", metavar="K")
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=2, metavar="T",
            help="Call a picture unknown, too, whose highest probability is under T, or not good with a score over T.",
        ),
    ] = None  # fmt: skip
    base: Base = None
    json: Json = False
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="Print a line of JSON for each picture as soon as it is classified.")
    ] = False
    csv: Annotated[
        Path | None,
        typer.Option(
            help="New table of path, label, probability, nearest label and error; - for standard output.",
            metavar="FILE",
            rich_help_panel=WRITING,
        ),
    ] = None
    copy_to: Annotated[
        Path | None,
        typer.Option(
            help="Copy the pictures into a folder for each label in DIR.", metavar="DIR", rich_help_panel=WRITING
        ),
    ] = None
    move_to: Annotated[
        Path | None,
        typer.Option(
            help="Move them there instead; what is moved is written down in DIR/undo-*.jsonl before.",
            metavar="DIR",
            rich_help_panel=WRITING,
        ),
    ] = None
    undo: Annotated[
        Path | None,
        typer.Option(
            help="Put back what an earlier --move-to moved, without MODEL and IMAGE.",
            metavar="FILE",
            rich_help_panel=WRITING,
        ),
    ] = None
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit code 1 if any picture cannot be read, not only if none can.", rich_help_panel=RUNNING
        ),
    ] = False

    def of_pictures(self) -> list[str]:
        """The options given that make sense for pictures alone."""
        given = {
            "--explain": self.explain, "--recursive": self.recursive, "--top": self.top, "--threshold": self.threshold,
            "--json-lines": self.json_lines, "--csv": self.csv, "--copy-to": self.copy_to, "--move-to": self.move_to,
            "--strict": self.strict,
        }  # fmt: skip
        return [name for name, value in given.items() if value not in (None, False)]


@app.command()
@options(PredictOptions)
def predict(wanted: PredictOptions) -> None:
    """Classify pictures or features, or predict numbers from numbers. An .onnx file needs no PyTorch."""
    if wanted.undo is not None:
        if wanted.model is not None or wanted.json or wanted.of_pictures():
            raise ConfigError("--undo FILE puts pictures back and does nothing else; leave out everything but it")
        _undo(wanted.undo)
        return
    if wanted.model is None or not wanted.images:
        raise typer.BadParameter("missing", param_hint=repr("MODEL" if wanted.model is None else "IMAGE..."))
    _check(wanted)
    if wanted.explain is not None:
        check_free(wanted.explain, "--explain")
    if wanted.csv is not None and str(wanted.csv) != "-":
        check_free_file(wanted.csv, "--csv")
    if wanted.model.is_dir():
        from fewshot_sdk.artifacts.opening import open_model

        opened: Classifier | Predictor | Curve | inspecting.Inspecting = open_model(wanted.model, wanted.base)
    else:
        from fewshot_sdk.runtime.opening import open_predictor

        opened = open_predictor(wanted.model)
    if isinstance(opened, inspecting.Inspecting):
        _inspect(opened, wanted, wanted.model, wanted.images)
    elif wanted.threshold is not None and wanted.threshold > 1 and not isinstance(opened, Curve):
        raise ConfigError(f"--threshold: expected a probability from 0 to 1, found {wanted.threshold}")
    elif not isinstance(opened, Curve) and (rows := features.rows_of(opened)):
        _of_features(opened, wanted.model, rows, wanted.images, wanted)
    elif not isinstance(opened, Curve):
        _of_pictures(opened, wanted.images, wanted)
    elif unfit := wanted.of_pictures():
        raise ConfigError(f"{wanted.model} predicts numbers, and {unfit[0]} is for pictures; leave it out")
    else:
        predict_numbers(opened, wanted.model, wanted.images, wanted.json)


def _inspect(model: inspecting.Inspecting, wanted: PredictOptions, name: Path, images: list[Path]) -> None:
    given = {"--top": wanted.top, "--csv": wanted.csv, "--base": wanted.base}
    inspecting.refuse(name, [option for option, value in given.items() if value is not None], "predict")
    well = inspecting.inspect(
        model, images, _names, recursive=wanted.recursive, threshold=wanted.threshold, json=wanted.json,
        json_lines=wanted.json_lines, explain=wanted.explain, into=wanted.copy_to or wanted.move_to,
        move=wanted.move_to is not None, strict=wanted.strict,
    )  # fmt: skip
    if not well:
        raise typer.Exit(1)


def _check(wanted: PredictOptions) -> None:
    """Raises ConfigError for options that contradict each other."""
    printed = [
        name
        for name, given in (
            ("--json", wanted.json), ("--json-lines", wanted.json_lines), ("--csv -", str(wanted.csv) == "-"),
        )
        if given
    ]  # fmt: skip
    if len(printed) > 1:
        raise ConfigError(f"{printed[0]} and {printed[1]} both print on standard output; leave one out")
    if wanted.copy_to is not None and wanted.move_to is not None:
        raise ConfigError("--copy-to and --move-to contradict each other; leave one out")
    if wanted.explain is not None:
        unfit = {"--json-lines", "--csv", "--copy-to", "--move-to", "--strict"} & set(wanted.of_pictures())
        if unfit:
            raise ConfigError(
                f"--explain is for a few pictures that are looked at, without {min(unfit)}; leave one out"
            )


def _of_pictures(model: Classifier | Predictor, images: list[Path], wanted: PredictOptions) -> None:
    from fewshot_sdk.images.listing import list_pictures

    into = wanted.copy_to or wanted.move_to
    listing = list_pictures(images, _names, recursive=wanted.recursive, leave_out=into)
    if into is not None:
        listing = replace(listing, paths=tuple({str(Path(path).absolute()): path for path in listing.paths}.values()))
    if wanted.explain is not None:
        _explained(model, listing, wanted, wanted.explain)
        return
    with ExitStack() as stack:
        shows = [*_shows(stack, listing.paths, wanted)]
        sort = None
        if into is not None:
            sort = stack.enter_context(sorter(into, model.labels, move=wanted.move_to is not None))
        batch = Batch(len(listing.paths), sort)
        few = listing.named and wanted.csv is None and into is None
        try:
            batch.run(_answers(model, listing, wanted), shows, quiet=_on_terminal(wanted))
        except BaseException as error:  # Ctrl-C, a full disk
            if sort is not None or not isinstance(error, BrokenPipeError):
                batch.tell(named=few)
            raise
        batch.tell(named=few)
    if wanted.csv is not None and str(wanted.csv) != "-":
        say(f"wrote {wanted.csv}")
    if batch.misplaced or (batch.bad and (wanted.strict or batch.bad == batch.done)):
        raise typer.Exit(1)


def _of_features(
    model: Classifier | Predictor, name: Path, rows: Rows, files: list[Path], wanted: PredictOptions
) -> None:
    features.refuse_pictures(
        [option for option in wanted.of_pictures() if option not in ("--top", "--threshold", "--json-lines", "--csv")],
        name,
    )
    tables = features.tables(files, rows)
    names = [name for table in tables for name in table.names]
    batch = Batch(len(names), None)
    with ExitStack() as stack:
        shows = [*_shows(stack, names, wanted)]
        batch.run(features.answers(model, tables, wanted.threshold), shows, quiet=True)
    if wanted.csv is not None and str(wanted.csv) != "-":
        say(f"wrote {wanted.csv}")


def _names() -> bytes:
    from fewshot_sdk.images.listing import MAX_NAMES

    return b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_NAMES + 1)


def _on_terminal(wanted: PredictOptions) -> bool:
    """Whether lines appear on a terminal as they come, where a bar would be in their way."""
    printing = not wanted.json and (wanted.csv is None or str(wanted.csv) == "-" or wanted.json_lines)
    return printing and sys.stdout is not None and sys.stdout.isatty()


def _shows(stack: ExitStack, names: Sequence[str], wanted: PredictOptions) -> Iterator[Show]:
    if wanted.csv is not None:
        yield stack.enter_context(table(wanted.csv, wanted.top))
    if wanted.json:
        yield stack.enter_context(json_list(wanted.top))
    elif wanted.json_lines:
        yield json_lines(wanted.top)
    elif wanted.csv is None:
        yield lines(min(WIDEST, max(map(len, names))), wanted.top)


def _limited(found: Prediction, threshold: float | None) -> Prediction:
    return replace(found, label=None) if threshold is not None and found.probability < threshold else found


def _answers(model: Classifier | Predictor, listing: Listing, wanted: PredictOptions) -> Iterator[Answer[str]]:
    from fewshot_sdk.runtime.streaming import stream

    threads = 1 if len(listing.paths) == 1 else None
    for answer in stream(model, listing.paths, Path, threads=threads):
        if answer.prediction is not None:
            answer = replace(answer, prediction=_limited(answer.prediction, wanted.threshold))
        yield answer


def _explained(model: Classifier | Predictor, listing: Listing, wanted: PredictOptions, folder: Path) -> None:
    paths = [Path(path) for path in listing.paths]
    predictions = [_limited(found, wanted.threshold) for found in model.predict(paths)]
    maps = explain_pictures(model, paths, predictions, folder)
    with ExitStack() as stack:
        for show in list(_shows(stack, listing.paths, wanted)):
            for path, found, file in zip(listing.paths, predictions, maps, strict=True):
                show(Answered(image=path, prediction=found, heat_map=str(file)))
    say(f"wrote {folder}: {len(maps)} picture{'' if len(maps) == 1 else 's'} beside a heat map")


def _undo(file: Path) -> None:
    from fewshot_sdk.storage.undoing import undo

    done = undo(file)
    say(f"{pictures(done.back)} put back")
    if done.left:
        say(reasons(f"{pictures(len(done.left))} not", done.left, len(done.left)))
        raise typer.Exit(1)
