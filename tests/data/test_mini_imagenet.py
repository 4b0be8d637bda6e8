"""mini-ImageNet from invented photographs in its layout, and from the real ones if available."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk.config.presets import preset
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.mini_imagenet import WNIDS, mini_imagenet
from fewshot_sdk.data.opening import data_source, held_out, open_dataset
from fewshot_sdk.errors import DataError
from tests.conftest import REAL_DATA

PIXELS = preset("mini-imagenet-5way").preprocessing


def photograph(index: int) -> bytes:
    data = io.BytesIO()
    shades = np.random.default_rng(index).integers(0, 256, (7, 7, 3), np.uint8)
    Image.fromarray(shades).resize((84, 84)).save(data, format="JPEG")
    return data.getvalue()


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """val/<wnid>/*.jpg, two of each class."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    for c, wnid in enumerate(sorted(WNIDS["val"])):
        (tmp_path / "data" / "val" / wnid).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "data" / "val" / wnid / f"{wnid}{i:08}.jpg").write_bytes(photograph(2 * c + i))
    return tmp_path / "data"


def zipped(folders: Path) -> Path:
    root = folders.parent / "zips"
    root.mkdir()
    with zipfile.ZipFile(root / "val.zip", "w") as archive:
        for path in sorted(folders.rglob("*.jpg")):
            archive.write(path, path.relative_to(folders))
        archive.writestr("val/README.txt", "not a picture")
    return root


def same(left: ClassImages, right: ClassImages) -> bool:
    return left.names == right.names and np.array_equal(left.images, right.images)


def test_the_split_is_64_16_20_and_no_class_is_in_two() -> None:
    assert {part: len(names) for part, names in WNIDS.items()} == {"train": 64, "val": 16, "test": 20}
    assert len(frozenset.union(*WNIDS.values())) == 100


def test_folders_and_zips_give_the_same_pixels(folders: Path) -> None:
    found = mini_imagenet(folders, PIXELS, "val")
    assert same(found, mini_imagenet(zipped(folders), PIXELS, "val"))
    assert found.images.shape == (32, 84, 84, 3)
    assert found.names == tuple(sorted(WNIDS["val"]))
    expected = np.asarray(Image.open(folders / "val" / found.names[3] / f"{found.names[3]}00000001.jpg"))
    assert np.array_equal(found.take(3, [1])[0], expected)


def test_decoded_once_until_a_picture_changes(folders: Path) -> None:
    before = mini_imagenet(folders, PIXELS, "val")
    (picture,) = (folders / "val" / before.names[0]).glob("*0.jpg")
    cache = folders.parent / "cache"
    assert len(list(cache.iterdir())) == 1
    mini_imagenet(folders, PIXELS, "val")
    assert len(list(cache.iterdir())) == 1
    picture.write_bytes(photograph(99))
    assert not same(before, mini_imagenet(folders, PIXELS, "val"))


def test_classes_of_another_split_are_refused_by_name(folders: Path) -> None:
    wnid, foreign = min(WNIDS["val"]), min(WNIDS["train"])
    (folders / "val" / wnid).rename(folders / "val" / foreign)
    message = rf"not the val part of Ravi .* 16 classes: 1 missing \({wnid}\), 1 foreign \({foreign} belongs to train\)"
    with pytest.raises(DataError, match=message):
        mini_imagenet(folders, PIXELS, "val")


def test_pickles_are_refused_with_what_to_do(folders: Path) -> None:
    root = folders.parent / "pickles"
    root.mkdir()
    (root / "mini-imagenet-cache-val.pkl").write_bytes(pickle.dumps({"image_data": []}))
    with pytest.raises(DataError, match=r"holds pickles, which can run any program .* save .* as val/<wnid>/<i>\.png"):
        mini_imagenet(root, PIXELS, "val")


def test_what_is_missing_or_damaged_is_named(folders: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded; pass .* --root"):
        mini_imagenet(None, PIXELS, "val")
    with pytest.raises(
        DataError, match=r"neither test/<wnid>/\*\.jpg nor test\.zip .* does hold val \(`evaluate --part`"
    ):
        mini_imagenet(folders, PIXELS, "test")
    root = zipped(folders)
    whole = (root / "val.zip").read_bytes()
    (root / "val.zip").write_bytes(whole[:-200])
    with pytest.raises(DataError, match=r"val\.zip cannot be read"):
        mini_imagenet(root, PIXELS, "val")
    at = whole.index(b"\xff\xd8\xff")
    (root / "val.zip").write_bytes(whole[:at] + b"nonsense" + whole[at + 8 :])
    with pytest.raises(DataError, match=r"val\.zip is corrupt \(.*fetch or make it again"):
        mini_imagenet(root, PIXELS, "val")
    (folders / "val" / min(WNIDS["val"]) / "x.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"x\.jpg: .*not a picture"):
        mini_imagenet(folders, PIXELS, "val")


def test_only_this_data_set_has_validation_classes(folders: Path) -> None:
    assert held_out(data_source("mini-imagenet")) == "val"
    assert open_dataset(data_source("mini-imagenet"), PIXELS, "val", folders).n_classes == 16
    with pytest.raises(DataError, match="glyphs has no validation classes"):
        open_dataset(data_source("glyphs"), PIXELS, "val")


@pytest.mark.skipif(not REAL_DATA, reason="needs FEWSHOT_DATA")
def test_the_real_validation_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path))
    found = open_dataset(data_source("mini-imagenet"), PIXELS, "val")
    assert found.images.shape == (1600, 84, 84, 3)
    assert all(found.n_images(c) == 100 for c in range(16))
    assert 100 < found.images.mean() < 140
