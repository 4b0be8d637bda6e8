"""The lines of docs/datasets.md, run on small archives of the same layout as the real ones."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk.data.own_pictures import read_own
from tests.conftest import REPOSITORY, tiny_recipe

PIXELS = tiny_recipe().preprocessing
PAGE = (REPOSITORY / "docs" / "datasets.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PARTS = {"train": ["a a", "b"], "valid": ["c"], "test": ["d"]}
RNG = np.random.default_rng(0)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)


def class_folders(folder: Path, names: list[str], suffix: str = ".jpg") -> None:
    for name in names:
        for i in range(2):
            picture(folder / name / f"{i}{suffix}")


def cifar_fs() -> None:
    class_folders(Path("cifar100/data"), ["a", "b", "c", "d"], ".png")
    Path("cifar100/splits/bertinetto").mkdir(parents=True)
    for part, text in (("train", "a\nb\n"), ("val", "c\n"), ("test", "d\n")):
        Path(f"cifar100/splits/bertinetto/{part}.txt").write_text(text)


def fc100() -> None:
    folder = Path("cifar-100-binary")
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("a\nb\nc\nd\n")
    for file in ("train", "test"):
        rows = RNG.integers(0, 256, (4, 3074), dtype=np.uint8)
        rows[:, 0], rows[:, 1] = [1, 2, 8, 14], range(4)
        rows.tofile(folder / f"{file}.bin")


def cub() -> None:
    class_folders(Path("CUB_200_2011/images"), [name for names in PARTS.values() for name in names])
    Path("cu_birds_splits.json").write_text(json.dumps(PARTS))


def tiered() -> None:
    class_folders(Path("ILSVRC2012/train"), ["n1", "n2", "n3", "n4"])
    Path("tiered_imagenet_split").mkdir()
    for part, text in (("train", "n1,n9\nn2,n9\n"), ("val", "n3,n8\n"), ("test", "n4,n7\n")):
        Path(f"tiered_imagenet_split/{part}.csv").write_text(text)


def quickdraw() -> None:
    Path("numpy_bitmap").mkdir()
    for name in ("ant", "hot dog"):
        np.save(f"numpy_bitmap/{name}.npy", RNG.integers(0, 256, (3, 784), dtype=np.uint8))


def aircraft() -> None:
    names = [name for names in PARTS.values() for name in names]
    data = Path("fgvc-aircraft-2013b/data")
    for i, part in enumerate(("train", "val", "test")):
        numbers = [f"{i}{c}" for c in range(4)]
        for number in numbers:
            picture(data / "images" / f"{number}.jpg")
        lines = [f"{number} {name}\n" for number, name in zip(numbers, names, strict=True)]
        (data / f"images_variant_{part}.txt").write_text("".join(lines))
    Path("aircraft_splits.json").write_text(json.dumps(PARTS))


def flowers() -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    savemat("imagelabels.mat", {"labels": np.asarray([[1, 2, 3, 4, 1, 2, 3, 4]], np.uint8)})
    for i in range(1, 9):
        picture(Path(f"jpg/image_{i:05}.jpg"))
    Path("vgg_flower_splits.json").write_text(json.dumps({"train": [1, 2], "valid": [3], "test": [4]}))


def traffic_signs() -> None:
    class_folders(Path("GTSRB/Final_Training/Images"), ["00000", "00001"], ".ppm")


@pytest.mark.skipif(os.name == "nt", reason="needs links")
@pytest.mark.parametrize(
    ("archive", "made", "sizes"),
    [
        (cifar_fs, "cifar-fs", (2, 1, 1)),
        (fc100, "fc100", (2, 1, 1)),
        (cub, "cub", (2, 1, 1)),
        (tiered, "tiered-imagenet", (2, 1, 1)),
        (quickdraw, "quickdraw", None),
        (aircraft, "aircraft.csv", (2, 1, 1)),
        (flowers, "flowers.csv", (2, 1, 1)),
        (traffic_signs, "traffic-signs", None),
    ],
)
def test_the_lines_make_what_data_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: Callable[[], None], made: str,
    sizes: tuple[int, int, int] | None,
) -> None:  # fmt: skip
    (lines,) = (block for block in BLOCKS if f'"{made}"' in block)
    monkeypatch.chdir(tmp_path)
    archive()
    exec(lines, {})
    found = read_own(made, PIXELS)
    parts = list(found.parts.values())
    assert min(found.counts().values()) >= 2
    assert found.complaints.unreadable == {}
    if sizes is None:
        assert set(parts) == {""}
    else:
        assert tuple(parts.count(part) for part in ("train", "val", "test")) == sizes


def test_fc100s_colours_are_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fc100()
    row = np.fromfile("cifar-100-binary/train.bin", np.uint8).reshape(-1, 3074)[0]
    (lines,) = (block for block in BLOCKS if '"fc100"' in block)
    exec(lines, {})
    pixels = np.asarray(Image.open(io.BytesIO(Path("fc100/train/a/train0.png").read_bytes())))
    assert pixels[3, 5].tolist() == [row[2 + channel * 1024 + 3 * 32 + 5] for channel in range(3)]


def test_the_lines_for_evaluating_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 12)
    (lines,) = (block for block in BLOCKS if "evaluate(" in block)
    exec(lines, {})
    assert capsys.readouterr().out.endswith("%\n")


def test_the_page_has_no_other_lines() -> None:
    assert len(BLOCKS) == 9
