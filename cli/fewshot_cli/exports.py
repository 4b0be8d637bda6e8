"""`fewshot export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from fewshot_cli.output import emit_json, say
from fewshot_sdk.files import check_free_file


def export(
    model: Path, output: Path, *, opset: int, precision: Literal["fp32", "fp16", "int8"], raw: bool, max_drop: float,
    json: bool,
) -> None:  # fmt: skip
    """Writes a classifier's folder as one ONNX file and says how it compares with PyTorch, and with 32 bits."""
    check_free_file(output)
    import fewshot_sdk as sdk

    classifier = sdk.load_classifier(model)
    made = sdk.export_onnx(classifier, output, opset=opset, precision=precision, raw=raw, max_drop=max_drop)
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
    say(f"next: fewshot predict {output} PICTURE")
