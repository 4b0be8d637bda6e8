"""`fewshot doctor`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fewshot_cli import features
from fewshot_cli.group import app
from fewshot_cli.options import Json, Labels
from fewshot_cli.output import emit, emit_json, say
from fewshot_cli.watching import lines, watched
from fewshot_sdk.errors import ConfigError


@app.command()
def doctor(
    source: Annotated[
        Path,
        typer.Argument(help="Pictures or features, in any form that `fewshot adapt --support` takes.", metavar="DIR"),
    ],
    query: Annotated[
        Path | None,
        typer.Option(help="Pictures set aside for evaluation; none may also be in DIR.", show_default=False),
    ] = None,
    label_from: Labels = "folder",
    json: Json = False,
) -> None:
    """Check a set of pictures before adapting to it. Exit code 1 if it has errors."""
    from fewshot_sdk.images.doctor import LOOK, examine
    from fewshot_sdk.images.features import has_features
    from fewshot_sdk.images.support import read_pictures

    example = "picture"
    if has_features(source):
        if query is not None or label_from != "folder":
            raise ConfigError(f"{source} holds features: leave out --query and --label-from, which are for pictures")
        findings, n, classes = features.examined(source)
        example = "row"
    else:
        support = read_pictures(source, LOOK, label_from, watch=watched)
        findings = examine(support, None if query is None else read_pictures(query, LOOK, "nothing", watch=watched))
        n, classes = len(support.pictures), len({picture.label for picture in support.pictures})
    if json:
        emit_json([asdict(finding) for finding in findings])
    else:
        for line in lines(findings, "--json lists them all"):
            emit(line)
    errors = sum(finding.severity == "error" for finding in findings)
    say(
        f"{_counted(n, example)} of {_counted(classes, 'class', 'classes')} read: "
        f"{_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}"
    )
    if errors:
        raise typer.Exit(1)


def _counted(n: int, one: str, many: str = "") -> str:
    return f"{n or 'no'} {one if n == 1 else many or one + 's'}"
