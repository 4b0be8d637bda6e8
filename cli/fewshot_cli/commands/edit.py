"""`fewshot edit`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot_cli.group import app
from fewshot_cli.options import Base, Json, options
from fewshot_cli.output import emit_json, say
from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.files import (
    MANIFEST,
    MAX_FILE_BYTES,
    SIGNATURE,
    check_free,
    check_free_file,
    overwrite_file,
    read_bounded,
    read_folder,
    write_file,
    write_folder,
)
from fewshot_sdk.storage.replacement import replace_folder

if TYPE_CHECKING:
    from fewshot_sdk.config.edits import Edit
    from fewshot_sdk.config.onnx_file import OnnxMetadata
    from fewshot_sdk.config.records import ClassifierConfig

PAGE, EXPORTED = "index.html", "model.onnx"  # of a bundle


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """Options of `fewshot edit`."""

    model: Annotated[
        Path, typer.Argument(help="A classifier: folder, .onnx file, or bundle of `fewshot export`.", metavar="MODEL")
    ]
    rename: Annotated[
        list[str] | None,
        typer.Option(help="Another name for a class; repeatable, also to swap two.", metavar="OLD=NEW"),
    ] = None
    drop: Annotated[
        list[str] | None, typer.Option(help="Take a class out, its pictures too; repeatable.", metavar="LABEL")
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Call a picture unknown if its probability is lower; 0: none for that reason."),
    ] = None
    output: Annotated[
        Path | None, typer.Option(help="New folder or file. Default: MODEL itself is replaced.", show_default=False)
    ] = None
    base: Base = None
    json: Json = False


@app.command()
@options(EditOptions)
def edit(given: EditOptions) -> None:
    """Rename or drop classes of a finished classifier, or set its threshold.

    Nothing is adapted again: what remains answers as before. The change is recorded in the model.
    """
    change, check = (_folder, check_free) if given.model.is_dir() else (_file, check_free_file)
    if given.output is not None:
        check(given.output)
        change(given)
        return
    from fewshot_sdk.storage.locks import alone_at

    model = given.model.resolve()
    with alone_at(given.model, model) if model.exists() else nullcontext():  # else another edit would be lost
        change(given)


def _folder(given: EditOptions) -> None:
    before = read_folder(given.model)
    if "config.json" not in before and before.keys() >= {PAGE, EXPORTED}:
        from fewshot_sdk.web.pages import redeployed

        found: ClassifierConfig | OnnxMetadata
        data, found = _edited_file(given, before[EXPORTED])
        after = redeployed(before, data)
    else:
        after, found = _edited_folder(given, before)
    if given.output is None:
        replace_folder(given.model, after)
    else:
        write_folder(given.output, after)
    _report(given, found)
    for name in sorted(before.keys() - after.keys()):
        again = "sign it again with `fewshot push --sign`" if name == SIGNATURE else "it showed the old classes"
        say(f"without its {name}, which no longer fits; {again}")


def _edited_folder(given: EditOptions, files: Mapping[str, bytes]) -> tuple[dict[str, bytes], ClassifierConfig]:
    from fewshot_sdk.artifacts.editing import edited_files
    from fewshot_sdk.storage.bundles import CLASSIFIER, DELTA, REGRESSOR, format_of, settings_of

    if format_of(files.get("config.json", b"")) == REGRESSOR.name:
        raise BundleError(f"{given.model} predicts numbers, and only classifiers of pictures can be edited")

    def settings(contents: Mapping[str, bytes]) -> ClassifierConfig:
        is_delta = format_of(contents.get("config.json", b"")) == DELTA.name
        return settings_of(contents, given.model, DELTA) if is_delta else settings_of(contents, given.model, CLASSIFIER)

    after = edited_files(files, given.model, _wanted(given, settings(files).labels), given.base)
    return after, settings(after)


def _file(given: EditOptions) -> None:
    beside = given.model.parent / MANIFEST
    data = read_bounded(given.model, MAX_FILE_BYTES)
    if given.output is None and beside.is_file() and f'"{given.model.name}"'.encode() in beside.read_bytes():
        raise BundleError(
            f"{given.model} is part of the folder {given.model.parent}, whose page and manifest name its hash; "
            f"edit the folder, or name a new --output"
        )
    after, metadata = _edited_file(given, data)
    if given.output is None:
        overwrite_file(given.model.resolve(), after)
    else:
        write_file(given.output, after)
    _report(given, metadata)


def _edited_file(given: EditOptions, data: bytes) -> tuple[bytes, OnnxMetadata]:
    from fewshot_sdk.runtime.editing import edited_file, metadata_of
    from fewshot_sdk.runtime.predictor import Predictor

    name = str(given.model)
    before = metadata_of(data, name)
    after = edited_file(data, _wanted(given, before.labels), name)
    return after, Predictor(after).metadata


def _wanted(given: EditOptions, labels: tuple[str, ...]) -> Edit:
    from fewshot_sdk.config.edits import Edit, renamings
    from fewshot_sdk.images.doctor import new_odd_names

    renamed = renamings(given.rename or (), labels)
    wanted = Edit(renamed=renamed, dropped=tuple(dict.fromkeys(given.drop or ())), threshold=given.threshold)
    left = [renamed.get(label, label) for label in labels if label not in wanted.dropped]
    for finding in new_odd_names(labels, left):
        say(f"warning: {finding.message}")
    return wanted


def _report(given: EditOptions, made: ClassifierConfig | OnnxMetadata) -> None:
    output, last = given.output or given.model, made.edits[-1]
    if given.json:
        emit_json(
            {
                "output": str(output),
                "labels": list(made.labels),
                "threshold": made.threshold,
                "least_score": made.least_score,
                "edits": [edit.model_dump(mode="json") for edit in made.edits],
            }
        )
    say(f"{output}: {last}; its classes are {', '.join(made.labels)}")
    if last.dropped:
        say("no accuracy is stated any more: it was measured with the dropped classes")
