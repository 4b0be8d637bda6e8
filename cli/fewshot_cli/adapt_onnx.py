"""`fewshot adapt --engine onnx`, which needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

from fewshot_cli.output import emit_json, say
from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.files import check_free_file


def adapt(support: Path, output: Path, learner: str, steps: int | None, seed: int, json: bool) -> None:
    """Adapt a learner file to a support folder and write the classifier as an ONNX file."""
    check_free_file(output)
    if not Path(learner).is_file():
        which = "omniglot" if learner == "auto" else learner
        raise BundleError(
            f"--engine onnx needs a learner file, but there is none at {learner}; make one with "
            f"`fewshot export-learner {which} --output learner.onnx`, then pass it with --init learner.onnx"
        )
    from fewshot_sdk.runtime.adaptation import adapt_to_onnx

    made = adapt_to_onnx(learner, support, output, steps=steps, seed=seed)
    metadata = made.metadata
    if json:
        emit_json(
            {
                "output": str(output),
                "initialization": metadata.initialization.name,
                "labels": list(metadata.labels),
                "images": made.images,
                "steps": metadata.adaptation.steps,
                "support_accuracy": made.recognized / made.images,
            }
        )
    say(
        f"adapted {learner} to {len(metadata.labels)} classes in {metadata.adaptation.steps} steps; "
        f"it recognizes {made.recognized} of its {made.images} support pictures"
    )
    say(f"wrote {output}; next: fewshot predict {output} PICTURE")
