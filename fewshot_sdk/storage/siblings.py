"""The names of what lies beside the output folder of a training, while it runs and after an interruption."""

from __future__ import annotations

from pathlib import Path

from fewshot_sdk.errors import ConfigError

CHECKPOINT, PRETRAINING, LINES, BEST = ".checkpoint", ".pretraining", ".metrics.jsonl", "-best"


def check_output(output: Path) -> None:
    """Raises ConfigError if nothing can lie beside `output`: it is `.` or `..`, or a mount point."""
    if output.name in ("", ".."):
        raise ConfigError(f"--output {output}: expected the name of a new folder, such as {output / 'init'}")
    if output.is_mount():
        raise ConfigError(
            f"--output {output} is a mount point, and checkpoints lie beside the output, so not on that disk; name a "
            f"folder in it, such as {output / 'init'}"
        )


def checkpoint_of(output: Path) -> Path:
    """The file of unfinished meta-training."""
    return output.with_name(output.name + CHECKPOINT)


def pretraining_of(output: Path) -> Path:
    """The file of unfinished pre-training."""
    return output.with_name(output.name + PRETRAINING)


def metrics_of(output: Path) -> Path:
    """The metrics.jsonl of unfinished meta-training, which grows with it."""
    return output.with_name(output.name + LINES)


def best_of(output: Path) -> Path:
    """The folder of the initialization with the best held-out accuracy; it stays."""
    return output.with_name(output.name + BEST)
