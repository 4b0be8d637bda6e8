"""`fewshot export`."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from fewshot_cli import numbers
from fewshot_cli.output import emit_json, say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import check_free, check_free_file, write_folder


@dataclass(frozen=True, kw_only=True)
class Files:
    """What to read and write.

    base: the initialization, if the model is a delta on one. output: one ONNX file; bundle: a folder with it, and
    vendor is for its page.
    """

    model: Path
    base: str | None
    output: Path | None
    bundle: Path | None
    vendor: Path | None

    def check(self) -> None:
        """Raises OutputExists if it is there already."""
        if self.bundle is not None:
            check_free(self.bundle)
        elif self.output is not None:
            check_free_file(self.output)


def export(
    files: Files, *, opset: int, precision: Literal["fp32", "fp16", "int8"], raw: bool, max_drop: float,
    json: bool,
) -> None:  # fmt: skip
    """Writes a classifier's folder as one ONNX file, alone or bundled, and says how it compares with PyTorch."""
    files.check()
    import fewshot_sdk as sdk
    from fewshot_sdk.artifacts.opening import open_model
    from fewshot_sdk.artifacts.regressor import Regressor

    classifier = open_model(files.model, files.base)
    if isinstance(classifier, Regressor):
        if files.output is None or files.base or raw or precision != "fp32":
            raise ConfigError(f"{files.model} predicts numbers: export it with --output, and of options --opset alone")
        numbers.export(classifier, files.output, opset, json)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = files.output or Path(folder) / "model.onnx"
        made = sdk.export_onnx(classifier, path, opset=opset, precision=precision, raw=raw, max_drop=max_drop)
        if files.bundle is not None:
            from fewshot_sdk.web.pages import deployment

            write_folder(files.bundle, deployment(path.read_bytes(), files.model.resolve().name, files.vendor))
    output = files.output or files.bundle
    parity, reduction, speed = made.metadata.parity, made.metadata.reduction, made.speed
    if json:
        said = {"output": str(output), "bytes": made.size, **made.metadata.model_dump(mode="json")}
        emit_json({**said, "speed": asdict(speed) if speed else None})
    if reduction and speed:
        say(
            f"{precision} against fp32: {reduction.lost:.1%} of accuracy lost on {reduction.images} support pictures, "
            f"the same answer to {reduction.agreed:.1%}, probabilities within {reduction.max_difference:.2g}; "
            f"{speed.bytes / 1000:,.0f} kB for {speed.bytes_fp32 / 1000:,.0f} kB, "
            f"{speed.milliseconds:.2g} ms a picture for {speed.milliseconds_fp32:.2g} ms"
        )
    say(
        f"wrote {output}, {made.size / 1000:,.0f} kB; onnxruntime and PyTorch differ by at most "
        f"{parity.max_difference:.1e} on {parity.images} support pictures and {parity.random_images:,} made-up ones"
        + (", in fp32" if reduction else "")
    )
    if files.bundle is None:
        say(f"next: fewshot predict {output} PICTURE")
    else:
        say(f"next: python {output}/predict.py PICTURE, or python3 -m http.server --directory {output} for its page")
