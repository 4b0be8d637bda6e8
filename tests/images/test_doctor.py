from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from fewshot_sdk.images.doctor import LOOK, Finding, examine
from fewshot_sdk.images.support import Reading, ReadPicture, read_pictures
from fewshot_sdk.images.thumbnails import likenesses, thumbnail
from tests.conftest import draw_folder, photograph


def found(folder: Path, query: Path | None = None) -> list[Finding]:
    return examine(read_pictures(folder, LOOK), read_pictures(query, LOOK, "nothing") if query else None)


def the_only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_clean_sets_are_healthy(photos: Path, drawings: Path, tmp_path: Path) -> None:
    assert found(photos) == []
    assert found(drawings) == []
    assert found(drawings, draw_folder(tmp_path / "new", first=4)) == []


def test_every_unreadable_file_is_an_error(photos: Path) -> None:
    (photos / "cup" / "note.txt").write_text("hello")
    (photos / "mug" / "empty.jpg").write_bytes(b"")
    findings = found(photos)
    assert [(f.severity, f.code) for f in findings] == [("error", "unreadable")] * 2
    assert "note.txt is not a picture" in findings[0].message
    assert "empty.jpg is empty" in findings[1].message


def test_a_copy_in_the_same_class_is_a_warning(photos: Path) -> None:
    (photos / "cup" / "copy.jpg").write_bytes((photos / "cup" / "0.jpg").read_bytes())
    finding = the_only(found(photos))
    assert (finding.severity, finding.code) == ("warning", "duplicate")
    assert "cup/0.jpg and " in finding.message
    assert "cup/copy.jpg are the same file; keep one" in finding.message


def test_a_copy_under_another_label_is_an_error(photos: Path) -> None:
    (photos / "mug" / "copy.jpg").write_bytes((photos / "cup" / "0.jpg").read_bytes())
    finding = the_only(found(photos))
    assert (finding.severity, finding.code) == ("error", "contradiction")
    assert "under different labels" in finding.message


@pytest.mark.parametrize("change", ["quality", "size", "brightness", "format"])
@pytest.mark.parametrize("label", ["cup", "mug"])
def test_a_nearly_same_picture_is_a_warning(photos: Path, change: str, label: str) -> None:
    original = Image.open(photos / "cup" / "0.jpg")
    target = photos / label / "again.jpg"
    if change == "quality":
        original.save(target, quality=50)
    elif change == "size":
        original.resize((80, 60)).save(target)
    elif change == "brightness":
        ImageEnhance.Brightness(original).enhance(0.85).save(target)
    else:
        original.save(target.with_suffix(".png"))
    finding = the_only(found(photos))
    assert (finding.severity, finding.code) == ("warning", "near-duplicate")
    assert "cup/0.jpg" in finding.message
    assert "again." in finding.message
    assert ("under different labels" in finding.message) == (label == "mug")
    assert ("the first is 120 x 90 pixels, the second 80 x 60" in finding.message) == (change == "size")


def test_many_near_copies_are_one_finding(photos: Path) -> None:
    original = Image.open(photos / "cup" / "0.jpg")
    for quality in range(30, 90, 10):
        original.save(photos / "cup" / f"q{quality}.jpg", quality=quality)
    finding = the_only(found(photos))
    assert (finding.code, "and 2 more are nearly the same picture" in finding.message) == ("near-duplicate", True)


def test_a_picture_of_one_colour_is_a_warning(photos: Path) -> None:
    for i, colour in enumerate(("white", "black")):
        Image.new("RGB", (50, 50), colour).save(photos / "cup" / f"blank{i}.png")
    assert [f.code for f in found(photos)] == ["blank", "blank"]


def test_a_class_of_nothing_but_single_colours_is_an_error(photos: Path) -> None:
    for i, picture in enumerate(sorted((photos / "cup").iterdir())):
        picture.unlink()
        Image.new("RGB", (50, 50), (40 * i, 0, 0)).save(photos / "cup" / f"{i}.png")
    errors = [finding for finding in found(photos) if finding.severity == "error"]
    assert the_only(errors).code == "blank-class"
    assert "all 5 pictures of the class cup are a single colour each" in errors[0].message


@pytest.mark.parametrize(
    ("renamed", "told"),
    [
        ("MUG ", "the classes 'MUG ' and 'mug' differ only in capitals or blanks"),
        ("Unknown", "'Unknown' is named like the answer for pictures of no known class"),
        ("NaN", "read the class name 'NaN' as a number or as nothing"),
        ("01", "read the class name '01' as a number or as nothing"),
    ],
)
def test_a_class_name_that_invites_confusion_is_told(photos: Path, renamed: str, told: str) -> None:
    (photos / "cup").rename(photos / renamed)
    finding = the_only(found(photos))
    assert (finding.severity, finding.code) == ("warning", "odd-name")
    assert told in finding.message


def test_too_few_pictures_are_told(drawings: Path) -> None:
    for shot in (1, 2, 3):
        (drawings / "ant" / f"{shot}.png").unlink()
    for shot in (2, 3):
        (drawings / "bee" / f"{shot}.png").unlink()
    findings = {finding.code: finding for finding in found(drawings)}
    assert set(findings) == {"few-shots", "imbalance"}
    assert "ant (1), bee (2); add some" in findings["few-shots"].message


def test_imbalance_is_told(photos: Path) -> None:
    for shot in range(100, 111):
        photograph(shot).save(photos / "mug" / f"{shot}.jpg")
    finding = the_only(found(photos))
    assert finding.code == "imbalance"
    assert "mug has 16 pictures and cup has 5" in finding.message


def test_one_grey_picture_among_colour_ones_is_odd_and_the_reverse(photos: Path) -> None:
    path = photos / "jar" / "3.jpg"
    picture = Image.open(path)
    picture.convert("L").save(path)
    finding = the_only(found(photos))
    assert (finding.code, "jar/3.jpg is grey" in finding.message) == ("odd-grey", True)
    for other in photos.glob("*/*.jpg"):
        Image.open(other).convert("L").save(other)
    assert found(photos) == []
    photograph(77).save(path)
    finding = the_only(found(photos))
    assert (finding.code, "jar/3.jpg is in colour" in finding.message) == ("odd-colour", True)


def test_half_grey_and_half_colour_is_nobodys_fault(photos: Path) -> None:
    for path in photos.glob("*/[01].jpg"):
        Image.open(path).convert("L").save(path)
    assert found(photos) == []


def test_two_classes_of_the_same_things_look_the_same(photos: Path) -> None:
    for path in (photos / "cup").iterdir():
        picture = Image.open(path)
        width, height = picture.size
        picture.crop((6, 5, width - 6, height - 5)).save(photos / "mug" / path.name)  # too different for a near copy
    finding = the_only(found(photos))
    assert finding.code == "alike-classes"
    assert "the classes cup and mug look the same: 10 of their 10 pictures" in finding.message


def test_the_support_set_and_the_query_must_not_overlap(photos: Path, tmp_path: Path) -> None:
    query = tmp_path / "query"
    query.mkdir()
    photograph(500).save(query / "new.jpg")
    assert found(photos, query) == []
    (query / "same.jpg").write_bytes((photos / "cup" / "0.jpg").read_bytes())
    Image.open(photos / "jar" / "1.jpg").resize((60, 45)).save(query / "near.jpg")
    (query / "bad.jpg").write_bytes(b"no")
    findings = found(photos, query)
    assert [(f.severity, f.code) for f in findings] == [
        ("error", "unreadable"),
        ("error", "overlap"),
        ("warning", "near-overlap"),
    ]
    assert "same.jpg is also in the support set, as " in findings[1].message
    assert "near.jpg is nearly the same as " in findings[2].message
    assert "jar/1.jpg" in findings[2].message


def test_errors_come_first(photos: Path) -> None:
    (photos / "cup" / "copy.jpg").write_bytes((photos / "cup" / "0.jpg").read_bytes())
    (photos / "mug" / "empty.jpg").write_bytes(b"")
    assert [f.severity for f in found(photos)] == ["error", "warning"]


def test_real_drawings_of_one_character_are_no_copies(real_omniglot: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(real_omniglot / "images_evaluation.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        classes = sorted({name.rpartition("/")[0] for name in names})
        for first in range(0, 20, 5):
            folder = tmp_path / str(first)
            for index, label in enumerate(classes[first : first + 5]):
                (folder / str(index)).mkdir(parents=True)
                for name in [name for name in names if name.startswith(label + "/")][:5]:
                    (folder / str(index) / Path(name).name).write_bytes(archive.read(name))
            assert found(folder) == []


def test_likeness_is_numpys_correlation() -> None:
    thumbs = [thumbnail(photograph(seed)) for seed in range(4)]
    expected = np.corrcoef(np.stack(thumbs).reshape(4, -1))
    np.testing.assert_allclose(np.concatenate(list(likenesses(thumbs, thumbs))), expected, atol=1e-5)


def test_pairs_of_pictures_cost_no_call_of_python_each() -> None:
    rng = np.random.default_rng(0)
    pictures = tuple(
        ReadPicture(
            name=str(i),
            label=str(i % 20),
            size=(32, 32),
            sha256=str(i),
            pixels=np.zeros((1, 1, 1), np.uint8),
            thumb=rng.integers(0, 256, (32, 32, 3), np.uint8),
        )
        for i in range(1000)
    )
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        found = examine(Reading(pictures=pictures, unreadable={}))
    finally:
        sys.setprofile(None)
    assert found == []
    assert calls < 200 * 1000  # of 500,000 pairs


def test_a_picture_inside_a_reading_keeps_what_the_doctor_needs(photos: Path) -> None:
    picture = read_pictures(photos, LOOK).pictures[0]
    assert (picture.size, picture.thumb.shape, picture.pixels.shape) == ((120, 90), (32, 32, 3), (64, 64, 3))
    data = (photos / "cup" / "0.jpg").read_bytes()
    np.testing.assert_array_equal(picture.thumb, thumbnail(Image.open(io.BytesIO(data))))
