"""mini-ImageNet: 100 classes of 84 x 84 photographs in Ravi & Larochelle's split, from your own folders or zips.

The images are ImageNet's and cannot be downloaded here: make them from your copy.
Source: Vinyals et al. 2016; Ravi & Larochelle, "Optimization as a Model for Few-Shot Learning", 2017.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.data.class_images import ClassImages, cached
from fewshot_sdk.errors import DataError, FewshotError
from fewshot_sdk.images.preprocessing import Pixels, preprocess
from fewshot_sdk.storage.files import sha256

_LISTS = {
    "train": """
        n01532829 n01558993 n01704323 n01749939 n01770081 n01843383 n01910747 n02074367 n02089867 n02091831 n02101006
        n02105505 n02108089 n02108551 n02108915 n02111277 n02113712 n02120079 n02165456 n02457408 n02606052 n02687172
        n02747177 n02795169 n02823428 n02966193 n03017168 n03047690 n03062245 n03207743 n03220513 n03337140 n03347037
        n03400231 n03476684 n03527444 n03676483 n03838899 n03854065 n03888605 n03908618 n03924679 n03998194 n04067472
        n04243546 n04251144 n04258138 n04275548 n04296562 n04389033 n04435653 n04443257 n04509417 n04515003 n04596742
        n04604644 n04612504 n06794110 n07584110 n07697537 n07747607 n09246464 n13054560 n13133613""",
    "val": """
        n01855672 n02091244 n02114548 n02138441 n02174001 n02950826 n02971356 n02981792 n03075370 n03417042 n03535780
        n03584254 n03770439 n03773504 n03980874 n09256479""",
    "test": """
        n01930112 n01981276 n02099601 n02110063 n02110341 n02116738 n02129165 n02219486 n02443484 n02871525 n03127925
        n03146219 n03272010 n03544143 n03775546 n04146614 n04149813 n04418357 n04522168 n07613480""",
}
WNIDS = {part: frozenset(names.split()) for part, names in _LISTS.items()}
PICTURES = (".jpg", ".jpeg", ".png")
_MAX_PICTURE = 4 * 2**20
_LAYOUT = 1  # increase when the cached arrays for the same images and settings change


def read(root: Path | None, settings: Preprocessing, split: str, part: str) -> ClassImages:  # noqa: ARG001
    """The classes of one part of the only split, see `mini_imagenet`."""
    return mini_imagenet(root, settings, part)


def mini_imagenet(root: Path | None, settings: Preprocessing, part: str) -> ClassImages:
    """The classes of one part of the split, `train` (64), `val` (16) or `test` (20), as preprocessed pixels.

    root: a folder with `<part>.zip`, which contains `<part>/<wnid>/*.jpg`, or with these folders themselves;
    None takes `FEWSHOT_DATA`/mini-imagenet.
    Raises DataError if there is neither, if the classes are not those of the split, or if a file is damaged.
    """
    data = os.environ.get("FEWSHOT_DATA")
    folder = root or (Path(data) / "mini-imagenet" if data else None)
    if folder is None:
        raise DataError(
            "mini-ImageNet cannot be downloaded; pass the folder of its train, val and test folders or zips with "
            "--root, or set FEWSHOT_DATA to the folder that holds mini-imagenet"
        )
    source = next((path for path in (folder / part, folder / f"{part}.zip") if path.exists()), None)
    if source is None:
        if any(folder.glob("*.pkl")) or any(folder.glob("*.pickle")):
            raise DataError(
                f"{folder} holds pickles, which can run any program when they are opened, so they are not read; "
                f"convert them where you trust them: for each class save image_data[i] of its class_dict as "
                f"{part}/<wnid>/<i>.png, and pass that folder"
            )
        there = [other for other in WNIDS if (folder / other).exists() or (folder / f"{other}.zip").exists()]
        hint = f"; it does hold {' and '.join(there)} (`evaluate --part`)" if there else ""
        raise DataError(f"{folder} holds neither {part}/<wnid>/*.jpg nor {part}.zip with those inside{hint}")
    try:
        files = dict(_files(source, part))
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{source} cannot be read ({error}); fetch or make it again") from None
    _check_classes({wnid for wnid, _ in files}, source, part)
    listing = "\n".join(f"{wnid}/{name} {mark}" for (wnid, name), mark in sorted(files.items()))
    made_of = f"layout {_LAYOUT}, {part} {sha256(listing.encode())}"
    return cached(
        f"mini-imagenet {made_of}, {settings.model_dump_json()}", lambda: _pixels(source, part, sorted(files), settings)
    )


def _files(source: Path, part: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Pairs of (wnid, file name) and a mark that changes when the file does."""
    if source.is_dir():
        for path in source.glob("*/*"):
            if path.suffix.lower() in PICTURES:
                status = path.stat()
                yield (path.parent.name, path.name), f"{status.st_size} {status.st_mtime_ns}"
        return
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            parts = PurePosixPath(entry.filename).parts
            if len(parts) == 3 and parts[0] == part and entry.filename.lower().endswith(PICTURES):
                yield parts[1:], f"{entry.file_size} {entry.CRC:08x}"


def _check_classes(found: set[str], source: Path, part: str) -> None:
    expected = WNIDS[part]
    if found == expected:
        return
    missing, foreign = sorted(expected - found), sorted(found - expected)
    elsewhere = [f"{wnid} belongs to {other}" for wnid in foreign for other in WNIDS if wnid in WNIDS[other]]
    raise DataError(
        f"{source} is not the {part} part of Ravi & Larochelle's split, {len(expected)} classes: "
        f"{len(missing)} missing ({', '.join(missing[:3])}), {len(foreign)} foreign "
        f"({', '.join((elsewhere or foreign)[:3])})"
    )


def _pixels(source: Path, part: str, files: list[tuple[str, str]], settings: Preprocessing) -> dict[str, Pixels]:
    classes: dict[str, list[Pixels]] = defaultdict(list)
    archive = None if source.is_dir() else zipfile.ZipFile(source)
    try:
        for wnid, name in files:
            if archive is None:
                data = (source / wnid / name).read_bytes()
            elif archive.getinfo(f"{part}/{wnid}/{name}").file_size > _MAX_PICTURE:
                raise DataError(f"{wnid}/{name} is larger than {_MAX_PICTURE >> 20} MiB")
            else:
                data = archive.read(f"{part}/{wnid}/{name}")
            try:
                classes[wnid].append(preprocess(data, settings))
            except FewshotError as error:
                raise DataError(f"{wnid}/{name}: {error}") from None
    except (FewshotError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise DataError(f"{source} is corrupt ({error}); fetch or make it again") from None
    finally:
        if archive:
            archive.close()
    return {wnid: np.stack(images) for wnid, images in classes.items()}
