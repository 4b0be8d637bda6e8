"""Omniglot: 1,623 characters of 50 alphabets, each by 20 drawers, read from the two official zips.

Source: Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic
program induction", Science 2015; github.com/brendenlake/omniglot (MIT).
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import urllib.request
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data.class_images import ClassImages, cached
from fewshot_sdk.errors import DataError, FewshotError
from fewshot_sdk.images.preprocessing import Pixels, preprocess
from fewshot_sdk.storage.caches import is_private, private_folder
from fewshot_sdk.storage.drafts import draft_beside
from fewshot_sdk.storage.files import read_bounded, sha256

URL = "https://github.com/brendenlake/omniglot/raw/master/python"
MD5 = {
    "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
}
PAPER_TRAIN, ALL = 1200, 1623
_MAX_ZIP = 64 * 2**20
_LAYOUT = 1  # increase when the cached arrays for the same zips and settings change


def omniglot(root: Path | None, settings: Preprocessing, split: str, part: str) -> ClassImages:
    """The unrotated characters of one part of a split, as preprocessed pixels.

    root: the folder of the zips; None takes `FEWSHOT_DATA`/omniglot, or else downloads them.
    Split `official`: part `train` is the background set, `test` the evaluation set. Split `paper`:
    both merged; 1,200 of the 1,623 (or the same share of fewer) are for training, chosen by a hash of
    the names and therefore the same everywhere.
    Raises DataError if a zip is missing, corrupt or not Omniglot.
    """
    folder = root or _default_root()
    everything = _decoded([folder / name for name in MD5], settings)
    names = everything.names
    if split == "official":
        wanted = "images_background/" if part == "train" else "images_evaluation/"
        return everything.subset([i for i, name in enumerate(names) if name.startswith(wanted)])
    shuffled = sorted(range(len(names)), key=lambda i: sha256(names[i].partition("/")[2].encode()))
    cut = len(names) * PAPER_TRAIN // ALL
    return everything.subset(sorted(shuffled[:cut] if part == "train" else shuffled[cut:]))


def _default_root() -> Path:
    if data := os.environ.get("FEWSHOT_DATA"):
        return Path(data) / "omniglot"
    folder = private_folder("omniglot")
    for name, md5 in MD5.items():
        if not ((folder / name).exists() and is_private(folder / name)):
            _download(f"{URL}/{name}", md5, folder / name)
    return folder


def _download(url: str, md5: str, target: Path) -> None:
    advice = f"fetch it by hand and pass its folder with --root, or set FEWSHOT_DATA ({url})"
    try:
        with draft_beside(target) as draft:
            part = draft / target.name
            with urllib.request.urlopen(url, timeout=60) as response, part.open("wb") as file:
                shutil.copyfileobj(response, file)
            found = hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest()
            if found != md5:
                raise DataError(f"{target.name}: expected md5 {md5}, the download has {found}; {advice}")
            part.replace(target)
    except OSError as error:
        raise DataError(f"could not download {target.name} ({error}); {advice}") from None


def _decoded(zips: list[Path], settings: Preprocessing) -> ClassImages:
    """Both zips as one memory-mapped array, decoded on first use and cached."""
    advice = f"--root must be the folder that holds {' and '.join(MD5)}"
    contents = [read_bounded(path, _MAX_ZIP, DataError, advice) for path in zips]

    def make() -> dict[str, Pixels]:
        classes: dict[str, Pixels] = {}
        for path, data in zip(zips, contents, strict=True):
            classes |= _characters(path, data, settings)
        return classes

    made_of = f"layout {_LAYOUT}, {', '.join(map(sha256, contents))}"
    return cached(f"omniglot {made_of}, {settings.model_dump_json()}", make)


def _characters(path: Path, data: bytes, settings: Preprocessing) -> dict[str, Pixels]:
    """`images_*/<alphabet>/<character>` -> uint8 (drawers, height, width, channels)."""
    found: dict[str, list[Pixels]] = defaultdict(list)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in sorted(archive.namelist()):
                parts = PurePosixPath(name).parts
                if len(parts) == 4 and parts[0] == path.stem and name.endswith(".png"):
                    found["/".join(parts[:3])].append(preprocess(archive.read(name), settings))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, FewshotError) as error:
        raise DataError(f"{path} is corrupt ({error}); fetch it again") from None
    if not found:
        raise DataError(f"{path} holds no {path.stem}/<alphabet>/<character>/*.png; is it the official zip?")
    return {name: np.stack(images) for name, images in found.items()}
