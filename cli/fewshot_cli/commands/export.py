"""`fewshot export`."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fewshot_cli.batch import pictures
from fewshot_cli.group import app
from fewshot_cli.options import WRITING, Base, IrVersion, Json, Opset, Vendor, options
from fewshot_cli.output import emit_json, say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.drafts import scratch
from fewshot_sdk.storage.files import check_free, check_free_file, write_folder

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.classifier import Classifier
    from fewshot_sdk.artifacts.inspector import Inspector
    from fewshot_sdk.artifacts.regressor import Regressor


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of `fewshot export`."""

    model: Annotated[Path, typer.Argument(help="Folder made by `fewshot adapt`.", metavar="MODEL")]
    output: Annotated[Path | None, typer.Option(help="ONNX file to write.", show_default=False)] = None
    bundle: Annotated[
        Path | None,
        typer.Option(help="New folder for the ONNX file, a small predict.py and a web page.", show_default=False),
    ] = None
    vendor: Vendor = None
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="Precision of weights and arithmetic; int8 is small and fast."),
    ] = "fp32"
    base: Base = None
    json: Json = False
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of support pictures that fp16 or int8 may newly get wrong. Default: 0.01.",
            rich_help_panel=WRITING,
        ),
    ] = None  # fmt: skip
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Leave out the preprocessing; the input is the network's normalized floats.",
            rich_help_panel=WRITING,
        ),
    ] = False  # fmt: skip
    heat_map: Annotated[
        bool,
        typer.Option(
            "--heat-map", help="Add the output heat_map: what speaks for the label, and where; see predict --explain.",
            rich_help_panel=WRITING,
        ),
    ] = False  # fmt: skip
    opset: Opset = 20
    ir_version: IrVersion = None


@app.command()
@options(ExportOptions)
def export(given: ExportOptions) -> None:
    """Export an adapted model to one ONNX file. Exit code 3, and no file, if it disagrees with PyTorch."""
    if (given.output is None) == (given.bundle is None):
        raise typer.BadParameter("give --output FILE.onnx or --bundle DIR")
    if given.bundle and given.raw:
        raise typer.BadParameter("the page and predict.py of a --bundle pass in whole pictures; leave out --raw")
    if given.vendor and not given.bundle:
        raise typer.BadParameter("--vendor is only for the page of a --bundle")
    if given.bundle is not None:
        check_free(given.bundle)
    elif given.output is not None:
        check_free_file(given.output)
    from fewshot_sdk.artifacts.inspector import Inspector
    from fewshot_sdk.artifacts.opening import open_model
    from fewshot_sdk.artifacts.regressor import Regressor

    opened = open_model(given.model, given.base)
    if isinstance(opened, Regressor):
        _regressor(opened, given)
    elif isinstance(opened, Inspector):
        _inspector(opened, given)
    else:
        _classifier(opened, given)


def _classifier(classifier: Classifier, given: ExportOptions) -> None:
    """Write one ONNX file, alone or bundled, and report how it compares with PyTorch."""
    from fewshot_sdk.config.recipe import Rows
    from fewshot_sdk.export.classifier import MAX_DROP, ExportSettings
    from fewshot_sdk.export.formats import export as write

    if given.bundle and isinstance(classifier.preprocessing, Rows):
        raise ConfigError(f"{given.model} takes features, and a --bundle is for pictures; give --output FILE.onnx")
    with nullcontext(Path()) if given.output else scratch() as folder:
        path = given.output or folder / "model.onnx"
        limit = MAX_DROP if given.max_drop is None else given.max_drop
        settings = ExportSettings(
            opset=given.opset, ir_version=given.ir_version, precision=given.precision, raw=given.raw, max_drop=limit,
            heat_map=given.heat_map,
        )  # fmt: skip
        made = write(classifier, path, settings)
        if given.bundle is not None:
            from fewshot_sdk.web.pages import deployment

            write_folder(given.bundle, deployment(path.read_bytes(), given.model.resolve().name, given.vendor))
    output = given.output or given.bundle
    example = classifier.preprocessing.example
    parity, reduction, speed = made.metadata.parity, made.metadata.reduction, made.speed
    if given.json:
        metadata = made.metadata.model_dump(mode="json")
        emit_json({"output": str(output), "bytes": made.size, **metadata, "speed": asdict(speed) if speed else None})
    if reduction and speed:
        say(
            f"{given.precision} compared with fp32: {reduction.lost:.1%} of accuracy lost on {reduction.images} "
            f"support pictures, the same answer for {reduction.agreed:.1%}, probabilities within "
            f"{reduction.max_difference:.2g}; {speed.bytes / 1000:,.0f} kB instead of {speed.bytes_fp32 / 1000:,.0f} "
            f"kB, {speed.milliseconds:.2g} ms per picture instead of {speed.milliseconds_fp32:.2g} ms"
        )
    say(
        f"wrote {output}, {made.size / 1000:,.0f} kB; onnxruntime and PyTorch differ by at most "
        f"{parity.max_difference:.1e} on {parity.images} support {example}s and {parity.random_images:,} random ones"
        + (", in fp32" if reduction else "")
    )
    quoted = shlex.quote(str(output))
    if given.bundle is None:
        say(f"next: fewshot predict {quoted} {'PICTURE' if example == 'picture' else 'more.csv'}")
    else:
        say(f"next: python {quoted}/predict.py PICTURE, or python3 -m http.server --directory {quoted} for its page")


def _inspector(inspector: Inspector, given: ExportOptions) -> None:
    """Write the ONNX file of an inspector and report how it compares with PyTorch."""
    if given.base is not None:
        raise ConfigError(f"{given.model} is an inspector, and --base is for a delta; leave it out")
    from fewshot_sdk.export.classifier import MAX_DROP
    from fewshot_sdk.export.inspector import export_inspector

    if given.output is None or given.raw:
        raise ConfigError(
            f"{given.model} is an inspector, which is exported whole and to a file alone; give --output FILE.onnx, and "
            "leave out --bundle and --raw"
        )
    limit = MAX_DROP if given.max_drop is None else given.max_drop
    made = export_inspector(
        inspector, given.output, opset=given.opset, ir_version=given.ir_version, precision=given.precision,
        max_drop=limit,
    )  # fmt: skip
    parity, reduction = made.metadata.parity, made.metadata.reduction
    if given.json:
        emit_json({"output": str(given.output), "bytes": made.size, **made.metadata.model_dump(mode="json")})
    if reduction:
        say(
            f"{given.precision} judges {reduction.agreed:.1%} of {reduction.images} pictures as fp32 does, with scores "
            f"within {reduction.max_difference:.2g}"
        )
    say(
        f"wrote {given.output}, {made.size / 1000:,.0f} kB; onnxruntime and PyTorch differ by at most "
        f"{parity.max_difference:.1e} on {pictures(parity.images)} and {parity.random} random ones"
        + (", in fp32" if reduction else "")
    )
    say(f"next: fewshot predict {shlex.quote(str(given.output))} PICTURE")


def _regressor(regressor: Regressor, given: ExportOptions) -> None:
    """Write the ONNX file of a regressor and report how it compares with PyTorch."""
    output = given.output
    if (
        output is None
        or given.base
        or given.raw
        or given.heat_map
        or given.precision != "fp32"
        or given.max_drop is not None
    ):
        raise ConfigError(
            f"{given.model} predicts numbers: export takes only --output, --opset, --ir-version and --json with it"
        )
    from fewshot_sdk.export.regressor import export_regressor

    made = export_regressor(regressor, output, opset=given.opset, ir_version=given.ir_version)
    parity = made.metadata.parity
    if given.json:
        emit_json({"output": str(output), "bytes": made.size, **made.metadata.model_dump(mode="json")})
    say(
        f"wrote {output}, {made.size / 1000:,.0f} kB; onnxruntime and PyTorch differ by at most "
        f"{parity.max_difference:.1e} on its {parity.points} points and {parity.random:,} random ones"
    )
    say(f"next: fewshot predict {shlex.quote(str(output))} points.csv")
