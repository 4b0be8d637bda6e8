from __future__ import annotations

import hashlib
import http.server
import io
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import DataSource
from fewshot_sdk.data import class_images as class_cache
from fewshot_sdk.data import omniglot as omniglot_module
from fewshot_sdk.data.glyphs import draw, glyph, glyphs, smooth
from fewshot_sdk.data.opening import data_source, open_dataset
from fewshot_sdk.errors import DataError, SaveError
from fewshot_sdk.images.preprocessing import read_image
from fewshot_sdk.storage.files import read_folder
from fewshot_sdk.storage.replacement import replace_folder

PIXELS = preset("omniglot-5way").preprocessing
PAPER = DataSource(name="omniglot", split="paper")
OFFICIAL = DataSource(name="omniglot", split="official")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_official_split_is_the_two_zips(omniglot_root: Path) -> None:
    train = open_dataset(OFFICIAL, PIXELS, "train", omniglot_root)
    test = open_dataset(OFFICIAL, PIXELS, "test", omniglot_root)
    assert (train.n_classes, test.n_classes) == (12, 8)
    assert all(name.startswith("images_background/") for name in train.names)
    assert all(train.n_images(c) == 20 for c in range(12))
    assert train.images.shape[1:] == (28, 28, 1)


def test_the_papers_split_mixes_both_and_shares_no_character(omniglot_root: Path) -> None:
    train = open_dataset(PAPER, PIXELS, "train", omniglot_root)
    test = open_dataset(PAPER, PIXELS, "test", omniglot_root)
    assert (train.n_classes, test.n_classes) == (20 * 1200 // 1623, 20 - 20 * 1200 // 1623)
    assert not set(train.names) & set(test.names)


def test_rotations_make_classes_of_training_characters_only(omniglot_root: Path) -> None:
    turned = PAPER.replace(rotations=True)
    assert open_dataset(turned, PIXELS, "train", omniglot_root).n_classes == 4 * 14
    assert open_dataset(turned, PIXELS, "test", omniglot_root).n_classes == 6


def test_pixels_are_those_of_the_zip_ink_0_and_paper_1(omniglot_root: Path) -> None:
    data = open_dataset(OFFICIAL, PIXELS, "train", omniglot_root)
    with zipfile.ZipFile(omniglot_root / "images_background.zip") as archive:
        picture = read_image(archive.read("images_background/Alphabet_0/character03/0003_05.png"))
    expected = np.asarray(picture.resize((28, 28), 0))
    found = data.take(data.names.index("images_background/Alphabet_0/character03"), [4])[0, :, :, 0]
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {0, 255}


def test_it_is_decoded_once_and_memory_mapped(
    omniglot_root: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_dataset(OFFICIAL, PIXELS, "train", omniglot_root)
    assert [p.name.startswith("omniglot-") for p in own_cache.iterdir()] == [True]
    monkeypatch.setattr(omniglot_module, "preprocess", None)  # decoding again would fail
    again = open_dataset(OFFICIAL, PIXELS, "train", omniglot_root)
    assert isinstance(again.images, np.memmap)
    assert again.digest == first.digest
    np.testing.assert_array_equal(again.images, first.images)


def test_other_settings_are_decoded_apart(omniglot_root: Path, own_cache: Path) -> None:
    for settings in (PIXELS, PIXELS.replace(height=20, width=20)):
        assert open_dataset(OFFICIAL, settings, "test", omniglot_root).images.shape[1] == settings.height
    assert len(list(own_cache.iterdir())) == 2


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewritten(folder: Path, name: str, data: bytes) -> None:
    """Another file in the cache, with its hash in the manifest."""
    replace_folder(folder, {**read_folder(folder), name: data})


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "images.npy"),
        lambda folder: flip(folder / "classes.json"),
        lambda folder: flip(folder / "manifest.json"),
        lambda folder: (folder / "images.npy").write_bytes((folder / "images.npy").read_bytes()[:-9]),
        lambda folder: (folder / "images.npy").write_bytes(b""),
        lambda folder: rewritten(folder, "images.npy", b"\x93NUMPY\x01\x00\x10\x00{'shape': (2, 2, "),
        lambda folder: rewritten(folder, "classes.json", b'{"a": 1e12, "b": -1e12}'),
        lambda folder: rewritten(folder, "classes.json", b"[" * 100_000),
        lambda folder: (folder / "images.npy").unlink(),
        lambda folder: (folder / "classes.json").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
    ],
    ids=[
        "pixels",
        "names",
        "hashes",
        "cut",
        "empty",
        "a bad header",
        "bad counts",
        "deep counts",
        "no pixels",
        "no names",
        "no hashes",
    ],
)
def test_a_damaged_cache_is_made_anew(own_cache: Path, damage: Callable[[Path], object]) -> None:
    good = glyphs(2, 3, PIXELS)
    expected = np.array(good.images)
    (folder,) = own_cache.iterdir()
    damage(folder)
    class_cache._sha256_of.cache_clear()  # another process
    again = glyphs(2, 3, PIXELS)
    np.testing.assert_array_equal(again.images, expected)
    assert again.names == good.names
    assert read_folder(folder).keys() == {"images.npy", "classes.json"}
    assert list(own_cache.iterdir()) == [folder]


@pytest.mark.parametrize("other", [np.zeros((6, 28, 28, 1), np.float32), np.zeros((5, 28, 28, 1), np.uint8)])
def test_a_cache_of_other_pictures_than_its_names_is_made_anew(own_cache: Path, other: NDArray[np.generic]) -> None:
    expected = np.array(glyphs(2, 3, PIXELS).images)
    (folder,) = own_cache.iterdir()
    array = io.BytesIO()
    np.save(array, other)
    replace_folder(folder, {**read_folder(folder), "images.npy": array.getvalue()})
    np.testing.assert_array_equal(glyphs(2, 3, PIXELS).images, expected)


def test_a_cache_is_hashed_once_in_a_process(own_cache: Path) -> None:
    glyphs(2, 3, PIXELS)
    before = class_cache._sha256_of.cache_info()
    glyphs(2, 3, PIXELS)
    after = class_cache._sha256_of.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)


def test_a_damaged_cache_that_may_not_be_written_is_reported(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glyphs(2, 3, PIXELS)
    (folder,) = own_cache.iterdir()
    (folder / "images.npy").unlink()

    def refuse(*_args: object) -> None:
        raise SaveError("could not write it: read-only file system")

    monkeypatch.setattr(class_cache, "replace_folder", refuse)
    with pytest.raises(SaveError, match="read-only file system; FEWSHOT_CACHE names another"):
        glyphs(2, 3, PIXELS)


def test_a_cache_that_cannot_be_written_is_reported(
    omniglot_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SaveError, match="FEWSHOT_CACHE names another cache folder"):
        open_dataset(OFFICIAL, PIXELS, "train", omniglot_root)


def test_missing_zips_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images_background\.zip: no such file.*; --root must be the folder"):
        open_dataset(PAPER, PIXELS, "train", tmp_path)


@pytest.mark.parametrize("how", ["cut", "flipped", "text", "empty"])
def test_a_corrupt_zip_is_named(omniglot_root: Path, tmp_path: Path, how: str) -> None:
    for name in ("images_background.zip", "images_evaluation.zip"):
        shutil.copy(omniglot_root / name, tmp_path / name)
    path = tmp_path / "images_evaluation.zip"
    good = path.read_bytes()
    if how == "empty":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "no images")
    else:
        middle = len(good) // 3
        flipped = good[:middle] + bytes(b ^ 255 for b in good[middle : middle + 600]) + good[middle + 600 :]
        path.write_bytes({"cut": good[:-200], "flipped": flipped, "text": b"hello"}[how])
    says = r"images_evaluation\.zip (is corrupt .* fetch it again|holds no images_evaluation/)"
    with pytest.raises(DataError, match=says):
        open_dataset(PAPER, PIXELS, "train", tmp_path)


def test_the_environment_names_the_folder(omniglot_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(omniglot_root, tmp_path / "omniglot")
    monkeypatch.setenv("FEWSHOT_DATA", str(tmp_path))
    assert open_dataset(OFFICIAL, PIXELS, "train").n_classes == 12


@pytest.fixture
def server(omniglot_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real server with the zips, and its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(omniglot_root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        monkeypatch.delenv("FEWSHOT_DATA", raising=False)
        url = f"http://127.0.0.1:{http_server.server_port}"
        monkeypatch.setattr(omniglot_module, "URL", url)
        yield url
        http_server.shutdown()
        thread.join()


def test_without_a_folder_it_is_downloaded_once_and_checked(
    server: str, omniglot_root: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = {name: hashlib.md5((omniglot_root / name).read_bytes()).hexdigest() for name in omniglot_module.MD5}
    monkeypatch.setattr(omniglot_module, "MD5", sums)
    assert open_dataset(OFFICIAL, PIXELS, "train").n_classes == 12
    monkeypatch.setattr(omniglot_module, "URL", "http://127.0.0.1:1")
    assert open_dataset(OFFICIAL, PIXELS, "test").n_classes == 8
    assert sorted(p.name for p in (own_cache / "omniglot").iterdir()) == sorted(sums)


def test_a_download_of_other_bytes_is_refused(server: str, own_cache: Path) -> None:
    with pytest.raises(DataError, match=r"expected md5 68d2efa1.*, the download has .*; fetch it by hand"):
        open_dataset(OFFICIAL, PIXELS, "train")
    assert list((own_cache / "omniglot").iterdir()) == []


def test_without_a_network_the_error_says_what_to_do(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    monkeypatch.setattr(omniglot_module, "URL", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"could not download images_background\.zip .*--root, or set FEWSHOT_DATA"):
        open_dataset(OFFICIAL, PIXELS, "train")


def test_an_unknown_data_set_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="no data set 'cifar'; the data sets are omniglot, mini-imagenet, glyphs"):
        data_source("cifar")


def test_a_glyph_is_a_pure_function_of_seed_and_number() -> None:
    for left, right in zip(glyph(2, 10**9), glyph(2, 10**9), strict=True):
        np.testing.assert_array_equal(left, right)
    assert len({str(glyph(2, i)) for i in range(200)}) == 200
    assert str(glyph(2, 0)) != str(glyph(3, 0))


def test_drawers_draw_the_same_glyph_differently_but_alike() -> None:
    drawn = glyphs(20, 6, PIXELS.replace(resize="box"), seed=4)
    images = drawn.images.reshape(20, 6, -1).astype(float)
    assert len({image.tobytes() for image in drawn.images}) == 120
    within = np.linalg.norm(images[:, 0] - images[:, 1], axis=1).mean()
    across = np.linalg.norm(images[:-1, 0] - images[1:, 1], axis=1).mean()
    assert within < across


def test_a_drawing_is_dark_ink_on_white() -> None:
    image = np.asarray(draw(glyph(0, 0), np.random.default_rng(0)))
    assert image.shape == (105, 105)
    assert 0.01 < (image < 128).mean() < 0.3


def test_the_curve_goes_through_its_points() -> None:
    points = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]])
    np.testing.assert_allclose(smooth(points, 8)[::8], points)


def test_training_and_test_glyphs_are_disjoint() -> None:
    recipe = preset("glyphs")
    small = recipe.preprocessing.replace(height=8, width=8)
    names = [set(glyphs(3, 2, small, first=first).names) for first in (0, 3)]
    assert not names[0] & names[1]


def test_the_real_omniglot_has_the_papers_sizes(real_omniglot: Path) -> None:
    turned = PAPER.replace(rotations=True)
    train = open_dataset(turned, PIXELS, "train", real_omniglot)
    test = open_dataset(turned, PIXELS, "test", real_omniglot)
    assert (train.n_classes, test.n_classes) == (4800, 423)
    assert open_dataset(OFFICIAL, PIXELS, "train", real_omniglot).n_classes == 964
    assert open_dataset(OFFICIAL, PIXELS, "test", real_omniglot).n_classes == 659
    assert {len(rows) for rows in train.rows} == {20}
