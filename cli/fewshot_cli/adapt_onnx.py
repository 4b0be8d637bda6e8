"""`fewshot adapt --engine onnx`, which needs no PyTorch."""

from __future__ import annotations

import shlex
from pathlib import Path

from fewshot_cli.output import emit_json, say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import check_free_file


def adapt(support: Path, output: Path, learner: str, steps: int | None, seed: int, json: bool) -> None:
    """Adapt a learner file, or an initialization, to a support folder and write the classifier as an ONNX file."""
    check_free_file(output)
    if learner == "auto":
        raise ConfigError(
            "--engine onnx compares nothing, so name what to start from: --init photo for photographs, --init omniglot "
            "for drawings, or a file made by `fewshot export-learner`"
        )
    from fewshot_sdk.images.sources import open_source
    from fewshot_sdk.runtime.adaptation import adapt_to_onnx
    from fewshot_sdk.runtime.calibration import REJECT_RATE

    with open_source(support):  # reports a wrong folder at once
        pass
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
                "least_score": metadata.least_score,
            }
        )
    say(
        f"adapted {learner} to {len(metadata.labels)} classes in {metadata.adaptation.steps} steps; "
        f"it recognizes {made.recognized} of its {made.images} support pictures"
    )
    if metadata.least_score is None:
        say("nothing will be called unknown")
    else:
        say(f"about {REJECT_RATE:.0%} of pictures of these classes will be called unknown, and many of other things")
    say(f"wrote {output}; next: fewshot predict {shlex.quote(str(output))} PICTURE")
