"""`fewshot test`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot_cli import features, inspecting
from fewshot_cli.batch import pictures, reasons
from fewshot_cli.group import app
from fewshot_cli.numbers import Curve
from fewshot_cli.options import Base, Json, Labels
from fewshot_cli.output import emit, emit_json, on_one_line, progress, say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import check_free_file, write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from fewshot_sdk.artifacts.classifier import Classifier
    from fewshot_sdk.images.sources import SourceFile
    from fewshot_sdk.runtime.predictor import Predictor
    from fewshot_sdk.runtime.scoring import ClassScore, Score, Share, Trial

MATRIX_CLASSES, COMMONEST = 12, 10  # classes for which there is a whole matrix; confusions named otherwise


@app.command("test")
def measure(
    model: Annotated[
        Path, typer.Argument(help="An exported .onnx file, or a folder made by `fewshot adapt`.", metavar="MODEL")
    ],
    source: Annotated[
        Path,
        typer.Argument(
            help="Pictures or features with their classes, in any form that `adapt --support` takes.",
            metavar="DIR",
        ),
    ],
    label_from: Labels = "folder",
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Text file with a label in each line, for features in a .npy.", metavar="FILE", show_default=False
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="New page with the result and the wrong pictures.", metavar="FILE", show_default=False),
    ] = None,
    base: Base = None,
    json: Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 if any picture cannot be read, not only if none can.")
    ] = False,
) -> None:
    """Measure a classifier on labelled pictures or features that it has not seen. An .onnx file needs no PyTorch."""
    from fewshot_sdk.images.sources import open_source
    from fewshot_sdk.runtime.scoring import score

    if html is not None:
        check_free_file(html, "--html")
    opened = _open(model, base)
    if isinstance(opened, inspecting.Inspecting):
        given = {"--html": html, "--labels": labels, "--label-from": label_from != "folder", "--base": base}
        inspecting.refuse(model, [name for name, value in given.items() if value not in (None, False)], "test")
        if not inspecting.measure(opened, source, json=json, strict=strict):
            raise typer.Exit(1)
        return
    if rows := features.rows_of(opened):
        features.refuse_pictures(["--html"] if html else ["--label-from"] if label_from != "folder" else [], model)
        found, seen = features.trials(opened, source, labels, rows)
        result = score(found, opened.labels)
        if json:
            emit_json({**_json(result), "labels": opened.labels, "unreadable": []})
        else:
            emit("\n".join(_lines(result, opened.labels, "row")))
        if seen:
            say(f"warning: {_seen(seen, len(found), 'row')}")
        return
    if labels is not None:
        raise ConfigError("--labels is for features, and this classifier is one of pictures; leave it out")
    with open_source(source, label_from, least=1) as files:
        answers = _Answers(opened, files)
        result = score(list(answers), opened.labels)
        notes = answers.notes()
        if html is not None:
            _write_page(html, f"{model.name} on {source.name or source}", result, opened, files, notes)
    if json:
        unread = [{"image": name, "error": error} for name, error in answers.unread.items()]
        emit_json({**_json(result), "labels": opened.labels, "unreadable": unread})
    elif len(answers.unread) < len(files):
        emit("\n".join(map(on_one_line, _lines(result, opened.labels))))
    for note in notes:
        say(f"warning: {note}")
    if answers.unread:
        what = f"{pictures(len(answers.unread))} of {len(files):,} could not be read"
        say(reasons(what, list(answers.unread.values()), len(answers.unread)))
    if html is not None:
        say(f"wrote {html}")
    if answers.unread and (strict or len(answers.unread) == len(files)):
        raise typer.Exit(1)


def _open(model: Path, base: str | None) -> Classifier | Predictor | inspecting.Inspecting:
    if model.is_dir():
        from fewshot_sdk.artifacts.opening import open_model

        opened: Classifier | Predictor | Curve | inspecting.Inspecting = open_model(model, base)
    else:
        from fewshot_sdk.runtime.opening import open_predictor

        opened = open_predictor(model)
    if isinstance(opened, Curve):
        raise ConfigError(f"{model} predicts numbers, and `fewshot test` is for pictures")
    return opened


class _Answers:
    """The answers for files whose class is known; unread: file name -> why it has none, afterwards.

    seen: how many are among the pictures that the classifier learned from, if it has them.
    """

    def __init__(self, model: Classifier | Predictor, files: Sequence[SourceFile]) -> None:
        self._model, self._files = model, files
        self.unread: dict[str, str] = {}
        self.seen = 0

    def __iter__(self) -> Iterator[Trial]:
        from fewshot_sdk.runtime.scoring import Trial
        from fewshot_sdk.runtime.streaming import stream

        support = getattr(self._model, "support", None)
        learned = set() if support is None else {hashlib.sha256(image.tobytes()).digest() for image in support.images}
        answers = stream(self._model, self._files, _read)
        for answer in progress(answers, len(self._files), "testing", lambda answer: Path(answer.source.name).name):
            file, found = answer.source, answer.prediction
            if found is None:
                self.unread[file.name] = answer.error
                continue
            if answer.pixels is not None:
                self.seen += hashlib.sha256(answer.pixels.tobytes()).digest() in learned
            yield Trial(
                name=file.name, truth=file.label, answer=found.label, nearest=found.nearest,
                probability=found.probability,
            )  # fmt: skip

    def notes(self) -> list[str]:
        """What makes the result doubtful."""
        if not self.seen:
            return []
        return [_seen(self.seen, len(self._files), "picture")]


def _seen(n: int, of: int, example: str) -> str:
    return (
        f"{pictures(n, example)} of {of:,} {'is' if n == 1 else 'are'} among those that the classifier learned from, "
        "so that it looks better than it is; test it on others"
    )


def _read(file: SourceFile) -> Image.Image:
    from fewshot_sdk.images.decoding import decode

    return decode(file.read(), file.name)


def _write_page(
    path: Path, title: str, result: Score, model: Classifier | Predictor, files: Sequence[SourceFile], notes: list[str]
) -> None:
    from fewshot_sdk.errors import ImageError
    from fewshot_sdk.web.scored import SHOWN, data_uri, render

    by_name = {file.name: file for file in files}

    def shown(one: Trial) -> str:
        try:
            return data_uri(_read(by_name[one.name]))
        except ImageError:
            return ""

    wrong = [shown(one) for one in result.wrong[:SHOWN]]
    write_file(path, render(title, result, model.labels, wrong, notes).encode())


def _json(result: Score) -> dict[str, object]:
    classes = {
        kind: [{**asdict(row), "taken_for": dict(row.taken_for)} for row in rows]
        for kind, rows in (("classes", result.classes), ("foreign", result.foreign))
    }
    return {**asdict(result), **classes}


def _lines(result: Score, labels: Sequence[str], example: str = "picture") -> Iterator[str]:
    if result.accuracy is not None:
        unknown = f"; {result.unknown:,} called unknown" if result.unknown else ""
        yield f"{_percent(result.accuracy)}: {_words(result.accuracy, example)} right{unknown}"
    else:
        yield f"no {example} is of a class that the model knows ({', '.join(labels[:5])}{', ...' * (len(labels) > 5)})"
    if result.rejected is not None:
        names = ", ".join(row.label for row in result.foreign[:5]) + ", ..." * (len(result.foreign) > 5)
        yield f"of classes that it does not know ({names}): {_words(result.rejected, example)} called unknown"
    rows = [*result.classes, *result.foreign]
    yield ""
    known = {row.label for row in result.classes}
    yield from _aligned(
        [
            ["class", "right", "of", "unknown", "taken for"],
            *(
                [
                    row.label, f"{row.right}" if row.label in known else "-", f"{row.n}", f"{row.unknown}",
                    ", ".join(f"{to} {n}" for to, n in row.taken_for[:3]),
                ]
                for row in rows
            ),
        ]
    )  # fmt: skip
    yield ""
    if len(rows) <= MATRIX_CLASSES and len(labels) <= MATRIX_CLASSES:
        yield "true class by row, answer by column"
        yield from _aligned([["", *labels, "unknown"], *([row.label, *_counts(row, labels)] for row in rows)])
    else:
        yield "most often confused"
        confused = sorted(((n, row.label, to) for row in rows for to, n in row.taken_for), key=lambda one: -one[0])
        yield from (f"{n}  {truth} taken for {to}" for n, truth, to in confused[:COMMONEST])


def _counts(row: ClassScore, labels: Sequence[str]) -> list[str]:
    counts = {**dict(row.taken_for), row.label: row.right}
    return [*(str(counts.get(to, 0)) for to in labels), str(row.unknown)]


def _percent(share: Share) -> str:
    return f"{share.count / share.n:.1%}"


def _words(share: Share, example: str) -> str:
    of = f"{share.count:,} of {pictures(share.n, example)}"
    return f"{of} (95 % interval {100 * share.low:.1f} to {100 * share.high:.1f} %)"


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    """The first and the last column to the left if it is text, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column == 0 or rows[0][column] == "taken for" else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
