"""How long one's own data set takes to open, the first time and again, and the memory that it takes.

    python -m benchmarks.own_data [--pictures N] [--per-class N] [--preset NAME] [--zip] [--json]

Makes that many JPEGs of 160 x 140 pixels in a temporary folder, and opens them with `open_dataset` in a new process
each time, its imports included, with a cache of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.processes import finish

_OPEN = """
import sys
from fewshot_sdk import open_dataset, preset

open_dataset(sys.argv[1], preset(sys.argv[2]).preprocessing, "train", split="1/0/0")
"""


def draw(folder: Path, n: int, per_class: int) -> None:
    """Write n JPEGs in class folders: soft spots of random colours, which compress like photographs."""
    rng = np.random.default_rng(0)
    for i in range(n):
        place = folder / f"class{i // per_class:05}"
        place.mkdir(parents=True, exist_ok=True)
        spots = Image.fromarray(rng.integers(0, 256, (14, 16, 3), dtype=np.uint8))
        spots.resize((160, 140), Image.Resampling.BICUBIC).save(place / f"{i}.jpg", quality=85)


def opened(source: Path, preset: str, cache: Path) -> dict[str, float]:
    """The seconds and the peak memory of a process that opens the data."""
    environment = {**os.environ, "FEWSHOT_CACHE": str(cache)}
    cost = finish([sys.executable, "-c", _OPEN, str(source), preset], environment=environment)
    return {"seconds": cost.seconds, "megabytes": cost.megabytes}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--preset", default="mini-imagenet-5way")
    parser.add_argument("--zip", action="store_true", help="in one zip instead of a folder")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "pictures")
        draw(source, given.pictures, given.per_class)
        if given.zip:
            folder, source = source, Path(name, "pictures.zip")
            with zipfile.ZipFile(source, "w") as archive:
                for file in sorted(folder.rglob("*.jpg")):
                    archive.write(file, file.relative_to(folder))
        found = {when: opened(source, given.preset, Path(name, "cache")) for when in ("first", "again")}
    if given.json:
        print(json.dumps({"pictures": given.pictures, **found}))
        return
    for when, one in found.items():
        print(f"{when}: {given.pictures:,} pictures in {one['seconds']:.1f} s, {one['megabytes']:.0f} MB at most")


if __name__ == "__main__":
    main()
