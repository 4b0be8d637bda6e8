"""Seconds and memory of `fewshot adapt` from the shell, each run in its own process.

    python -m benchmarks.adapt_command [--rounds N] [--photos N] [--side N] [--against DIR] [--json]

Three commands: `--method auto` on 5 classes of 5 synthetic photographs of 12 megapixels; `--method reptile` on 5
classes of 5 drawings of Omniglot's size; and `--method auto` on `--photos` photographs (default 500) in 10 classes, run
once, for its peak memory. Prints wall seconds, CPU seconds of the process (which other work on the machine hardly
changes), and the peak memory in MB. `--against`: another checkout of this project, whose runs alternate with these.
The compiled inner loop is in the cache before anything is measured, as it is from a user's second command on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.processes import finish
from fewshot_sdk.data.glyphs import draw, glyph

HERE = Path(__file__).parent.parent
WIDTH, HEIGHT = 4000, 3000


def photographs(folder: Path, classes: int, n: int, width: int = WIDTH) -> Path:
    """A folder of synthetic photographs: a smooth background in the class's colour and a patch of noise, as JPEGs."""
    height = width * HEIGHT // WIDTH
    for index in range(n):
        label, rng = index % classes, np.random.default_rng((index, 5))
        hue = np.random.default_rng((label, 6)).uniform(40, 215, 3)
        coarse = (hue + rng.normal(0, 40, (12, 16, 3))).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        patch = Image.fromarray(rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8))
        picture.paste(patch, (int(rng.integers(0, width // 2)), int(rng.integers(0, height // 2))))
        place = folder / f"class{label}" / f"{index}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place, quality=90)
    return folder


def drawings(folder: Path) -> Path:
    """Five synthetic characters by five drawers, 105 x 105 pixels like Omniglot's."""
    for index in range(5):
        (folder / f"character{index}").mkdir(parents=True)
        for drawer in range(5):
            picture = draw(glyph(9, index), np.random.default_rng((9, index, drawer)), side=105)
            picture.save(folder / f"character{index}" / f"{drawer}.png")
    return folder


def run(tree: Path, support: Path, *arguments: str) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak memory in MB of one `fewshot adapt`, run from a checkout."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "fewshot_cli.main", "adapt", "--support", str(support), *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "cli")])}
        used = finish([*command, "--output", f"{out}/model"], folder=Path(out), environment=environment)
    return {
        "seconds": used.seconds,
        "processor_seconds": used.processor_seconds,
        "megabytes": used.megabytes,
    }


def measure(rounds: int, photos: int, width: int, trees: dict[str, Path]) -> dict[str, float]:
    """The medians over the rounds, for each checkout; `trees` has their prefixes in the keys."""
    with tempfile.TemporaryDirectory() as folder:
        cases: dict[str, Callable[[Path], dict[str, float]]] = {}
        few, drawn = photographs(Path(folder) / "few", 5, 25, width), drawings(Path(folder) / "drawn")
        cases["auto"] = lambda tree: run(tree, few, "--method", "auto")
        cases["reptile"] = lambda tree: run(tree, drawn, "--method", "reptile", "--init", "omniglot")
        found: dict[str, list[float]] = {}
        for round_ in range(rounds + 1):
            for case, command in cases.items():
                for name, tree in trees.items():
                    result = command(tree)
                    if round_:  # the first warms up
                        for key, value in result.items():
                            found.setdefault(f"{name}{case}_{key}", []).append(value)
        medians = {key: statistics.median(values) for key, values in found.items()}
        if photos:
            many = photographs(Path(folder) / "many", 10, photos, width)
            for name, tree in trees.items():
                medians |= {f"{name}many_{key}": value for key, value in run(tree, many, "--method", "auto").items()}
    return medians


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Seconds and memory of `fewshot adapt` from the shell.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=500, help="for the peak memory; 0: skip this command")
    parser.add_argument("--side", type=int, default=WIDTH, help="longer side of the photographs, in pixels")
    parser.add_argument("--against", type=Path, help="another checkout; runs alternate")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    trees = {"": HERE} if options.against is None else {"": HERE, "other_": options.against.resolve()}
    found = measure(options.rounds, options.photos, options.side, trees)
    if options.json:
        print(json.dumps({key: round(value, 3) for key, value in found.items()}))
        return
    for key in (key for key in found if key.endswith("_megabytes")):
        case = key.removesuffix("_megabytes")
        seconds, processor = found[f"{case}_seconds"], found[f"{case}_processor_seconds"]
        print(f"{case}: {seconds:.1f} s, {processor:.1f} s of CPU; peak {found[key]:.0f} MB")


if __name__ == "__main__":
    main()
