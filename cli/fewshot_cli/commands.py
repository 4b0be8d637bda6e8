"""What each command does, once its words are parsed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.output import emit, emit_json, say
from fewshot_sdk.files import check_free, check_free_file

if TYPE_CHECKING:
    from fewshot_sdk.sources import LabelFrom


def adapt(
    support: Path, output: Path, init_name: str, label_from: LabelFrom, steps: int | None, seed: int, json: bool
) -> None:
    """`fewshot adapt`."""
    from fewshot_cli.doctor import read_examined
    from fewshot_sdk.sources import open_source

    check_free(output)
    with open_source(support, label_from):
        pass  # a wrong folder is told before PyTorch is loaded
    import fewshot_sdk as sdk

    init = sdk.load(init_name)
    examined = read_examined(support, init.recipe.preprocessing, label_from)
    classifier = sdk.adapt(init, examined, steps=steps, seed=seed)
    images, targets = classifier.support.images, classifier.support.targets
    right = int((classifier.probabilities(images).argmax(1) == targets).sum())
    sdk.save(classifier, output)
    if json:
        emit_json(
            {
                "output": str(output),
                "initialization": init_name,
                "labels": list(classifier.labels),
                "images": len(targets),
                "steps": classifier.config.adaptation.steps,
                "support_accuracy": right / len(targets),
            }
        )
    say(
        f"adapted {init_name} to {len(classifier.labels)} classes in {classifier.config.adaptation.steps} steps; "
        f"{right} of its {len(targets)} support pictures are recognized"
    )
    say(f"wrote {output}; next: fewshot export {output} --output {output}.onnx")


def export(model: Path, output: Path, json: bool) -> None:
    """`fewshot export`."""
    check_free_file(output)
    import fewshot_sdk as sdk

    made = sdk.export_onnx(sdk.load_classifier(model), output)
    parity = made.metadata.parity
    if json:
        emit_json({"output": str(output), "bytes": made.size, **made.metadata.model_dump(mode="json")})
    say(
        f"wrote {output}, {made.size / 1000:,.0f} kB; onnxruntime and PyTorch differ by at most "
        f"{parity.max_difference:.1e} on {parity.images} support pictures"
    )
    say(f"next: fewshot predict {output} PICTURE")


def predict(model: Path, images: list[Path], json: bool) -> None:
    """`fewshot predict`: a folder is run by PyTorch, a file by onnxruntime."""
    import fewshot_sdk as sdk

    classifier = sdk.load_classifier(model) if model.is_dir() else sdk.Predictor(model)
    found = classifier.predict(images)
    if json:
        emit_json([{"image": str(image), **asdict(said)} for image, said in zip(images, found, strict=True)])
        return
    width = max(len(str(image)) for image in images)
    for image, said in zip(images, found, strict=True):
        emit(f"{image!s:<{width}}  {said.label}  {said.probability:.1%}")
