"""`fewshot adapt --engine onnx`, which needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

from fewshot_cli.output import emit_json, say
from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.files import check_free_file


def adapt(support: Path, output: Path, learner: str, steps: int | None, seed: int, json: bool) -> None:
    """A support folder and a learner file in, a classifier's ONNX file out."""
    check_free_file(output)
    if not Path(learner).is_file():
        which = "omniglot" if learner == "auto" else learner
        raise BundleError(
            f"--engine onnx adapts a learner file, and there is none at {learner}; make one with "
            f"`fewshot export-learner {which} --output learner.onnx`, then name it: --init learner.onnx"
        )
    from fewshot_sdk.runtime.adaptation import adapt_to_onnx

    made = adapt_to_onnx(learner, support, output, steps=steps, seed=seed)
    said = made.metadata
    if json:
        emit_json(
            {
                "output": str(output),
                "initialization": said.initialization.name,
                "labels": list(said.labels),
                "images": made.images,
                "steps": said.adaptation.steps,
                "support_accuracy": made.recognized / made.images,
            }
        )
    say(
        f"adapted {learner} to {len(said.labels)} classes in {said.adaptation.steps} steps; "
        f"{made.recognized} of its {made.images} support pictures are recognized"
    )
    say(f"wrote {output}; next: fewshot predict {output} PICTURE")
