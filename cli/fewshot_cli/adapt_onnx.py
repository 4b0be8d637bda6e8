"""`fewshot adapt --engine onnx`, which needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

from fewshot_cli.output import emit_json, say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import check_free_file


def adapt(support: Path, output: Path, learner: str, steps: int | None, seed: int, json: bool) -> None:
    """Adapt a learner, from a file or made from an initialization, and write the classifier as an ONNX file."""
    check_free_file(output)
    if learner == "auto":
        raise ConfigError(
            "--engine onnx compares no initializations; name one with --init: photo for photographs, omniglot for "
            "drawings, or a learner file"
        )
    from fewshot_sdk.images.sources import open_source
    from fewshot_sdk.runtime.adaptation import adapt_to_onnx
    from fewshot_sdk.runtime.learner import Learner

    with open_source(support):  # reports a wrong folder at once
        pass
    if Path(learner).is_file():
        opened = Learner(Path(learner))
    else:
        from fewshot_sdk.runtime.learners import learner_of

        opened = Learner(learner_of(learner))
    made = adapt_to_onnx(opened, support, output, steps=steps, seed=seed)
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
