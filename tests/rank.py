"""`fewshot` for tests of several processes: the glyphs preset with few characters and 20 short outer steps.

Started by torchrun; its arguments are those of `fewshot`. The environment says what happens to a rank on its way:
KILLED=RANK:STEP kills that rank before an outer step, in its first life; HELD=FILE stops all before step HELD_AT until
FILE exists, each after making FILE.RANK; OTHER=RANK:WORDS adds words to that rank's arguments.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import fewshot_sdk.config.presets
import fewshot_sdk.data.glyphs
import fewshot_sdk.meta.curve
import fewshot_sdk.meta.training
from fewshot_cli.main import app
from fewshot_sdk.config.recipe import Pretraining
from fewshot_sdk.engine.workers import Workers
from fewshot_sdk.meta.outer_loop import Position, Setup, outer_step
from tests.conftest import tiny_recipe

META_STEPS = 20


def small_presets() -> None:
    """Make glyphs small, and mini-imagenet-residual a small preset on glyphs that is pre-trained."""
    fewshot_sdk.data.glyphs.GLYPH_CLASSES = 30
    fewshot_sdk.meta.curve.TASKS = 5
    tiny = tiny_recipe()
    few = tiny.inner.replace(steps=2)
    meta = tiny.meta.replace(meta_steps=META_STEPS, tasks_per_step=3)
    recipe = tiny.replace(meta=meta, inner=few, adaptation=few)
    pretrained = recipe.replace(pretraining=Pretraining(epochs=2, batch_size=32, pictures="drawings"))
    fewshot_sdk.config.presets.PRESETS |= {"glyphs": recipe, "omniglot-protonet": pretrained}


def step_with_accidents(setup: Setup, at: Position, done: int, workers: Workers) -> tuple[Position, float]:
    """An outer step, before which this process may be killed or held."""
    rank, step = os.environ.get("KILLED", "-1:0").split(":")
    first_life = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
    if first_life and workers.rank == int(rank) and done == int(step):
        os.kill(os.getpid(), signal.SIGKILL)
    if (file := os.environ.get("HELD")) and first_life and done == int(os.environ["HELD_AT"]):
        Path(f"{file}.{workers.rank}").touch()
        until = time.monotonic() + 200
        while not Path(file).exists() and time.monotonic() < until:
            time.sleep(0.02)
    return outer_step(setup, at, done, workers)


if __name__ == "__main__":
    small_presets()
    setattr(fewshot_sdk.meta.training, "outer_step", step_with_accidents)  # noqa: B010
    its, _, more = os.environ.get("OTHER", "").partition(":")
    app([*sys.argv[1:], *(more.split() if its == os.environ.get("RANK") else [])])
