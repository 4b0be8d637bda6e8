from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from fewshot_sdk.images import decoding, support
from fewshot_sdk.images.doctor import LOOK, Finding, examine
from fewshot_sdk.images.support import Reading, ReadPicture, read_pictures
from fewshot_sdk.images.thumbnails import likenesses, thumbnail
from tests.conftest import Run, draw_folder


def photograph(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    rng = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3), np.float32)
    for cells in (3, 6, 12, 24):
        patches = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        whole += np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), np.float32) / cells**0.5
    return Image.fromarray((whole * (255 / whole.max())).astype(np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of five photographs, each different."""
    for index, label in enumerate(("cup", "jar", "mug")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for shot in range(5):
            photograph(10 * index + shot).save(tmp_path / "photos" / label / f"{shot}.jpg", quality=90)
    return tmp_path / "photos"


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


def test_the_command_prints_findings_and_its_exit_code_tells_errors(run: Run, photos: Path) -> None:
    code, out, err = run("doctor", photos, "--json")
    assert (code, json.loads(out)) == (0, [])
    assert err == "15 pictures of 3 classes read: no errors, no warnings\n"
    (photos / "cup" / "copy.jpg").write_bytes((photos / "cup" / "0.jpg").read_bytes())
    code, out, _ = run("doctor", photos)
    assert code == 0
    assert out.startswith("warning: ")
    code, out, err = run("doctor", photos, "--query", photos, "--json")
    assert code == 1
    assert {finding["code"] for finding in json.loads(out)} == {"duplicate", "overlap"}
    assert set(json.loads(out)[0]) == {"severity", "code", "message"}
    assert err == "16 pictures of 3 classes read: 16 errors, 1 warning\n"


def test_adapting_tells_warnings_and_goes_on(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    (drawings / "ant" / "copy.png").write_bytes((drawings / "ant" / "0.png").read_bytes())
    code, _, err = run("adapt", "--support", drawings, "--init", saved, "--output", tmp_path / "model")
    assert code == 0
    assert "warning: " in err
    assert "are the same file" in err


def test_adapting_tells_every_error_and_stops(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    for i in range(7):
        (drawings / "ant" / f"bad{i}.png").write_bytes(b"")
    (drawings / "bee" / "copy.png").write_bytes((drawings / "ant" / "0.png").read_bytes())
    code, _, err = run("adapt", "--support", drawings, "--init", saved, "--output", tmp_path / "model")
    assert code == 1
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error"] * 8
    assert not (tmp_path / "model").exists()


def test_findings_of_one_kind_are_told_five_times_and_counted(run: Run, photos: Path) -> None:
    for i in range(5):
        for label in ("cup", "mug"):
            (photos / label / f"copy{i}.jpg").write_bytes((photos / label / f"{i}.jpg").read_bytes())
    _, out, _ = run("doctor", str(photos))
    assert out.count("are the same file; keep one") == 5
    assert "warning: and 5 more like these (duplicate); --json lists them all" in out


def test_bad_files_are_left_out_if_asked(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    (drawings / "notes").mkdir()
    (drawings / "notes" / "read me.txt").write_text("hello")
    command = ("adapt", "--support", str(drawings), "--init", str(saved), "--steps", "2", "--output")
    code, _, err = run(*command, str(tmp_path / "stops"))
    assert code == 1
    assert "read me.txt is not a picture" in err
    code, _, err = run(*command, str(tmp_path / "model"), "--skip-bad")
    assert code == 0
    assert "warning: " in err
    assert "read me.txt is not a picture" in err
    assert "notes" not in json.loads((tmp_path / "model" / "config.json").read_text())["labels"]


def test_leaving_bad_files_out_needs_two_classes_that_remain(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    for folder in sorted(drawings.iterdir())[1:]:
        for picture in folder.iterdir():
            picture.write_bytes(b"no")
    command = ("adapt", "--support", str(drawings), "--init", str(saved), "--output", str(tmp_path / "m"), "--skip-bad")
    code, _, err = run(*command)
    assert code == 1
    assert "too few classes have a picture that can be read" in err


def test_adapting_reads_and_decodes_every_picture_once(
    run: Run, saved: Path, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counting(data: bytes, name: str) -> Image.Image:
        decoded.append(name)
        return decoding.decode(data, name)

    monkeypatch.setattr(support, "decode", counting)
    words = ("adapt", "--support", drawings, "--init", saved, "--output", tmp_path / "model")
    assert run(*words)[0] == 0
    assert len(decoded) == len(set(decoded)) == 12


def test_pictures_for_several_initializations_are_decoded_once_and_seen_as_by_each_alone(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [LOOK, LOOK.replace(height=20, width=24, channels=1, mean=(0.0,), std=(1.0,))]
    alone = [read_pictures(photos, one) for one in settings]
    decoded: list[str] = []

    def counting(data: bytes, name: str) -> Image.Image:
        decoded.append(name)
        return decoding.decode(data, name)

    monkeypatch.setattr(support, "decode", counting)
    together = support.read_for_all(photos, settings)
    assert len(decoded) == len(alone[0].pictures)
    for one, reading in zip(settings, alone, strict=True):
        for expected, found in zip(reading.pictures, together[one].pictures, strict=True):
            np.testing.assert_array_equal(found.pixels, expected.pixels)
            np.testing.assert_array_equal(found.thumb, expected.thumb)


def test_adapting_takes_labels_from_names(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for file in drawings.glob("*/*.png"):
        file.rename(tmp_path / "flat" / f"{file.parent.name}_{file.name}")
    words = ("adapt", "--support", tmp_path / "flat", "--init", saved, "--output", tmp_path / "model")
    code, _, err = run(*words)
    assert code == 1
    assert "--label-from name" in err
    code, out, _ = run(*words, "--label-from", "name", "--json")
    assert (code, json.loads(out)["labels"]) == (0, ["ant", "bee", "cat"])


def test_a_picture_inside_a_reading_keeps_what_the_doctor_needs(photos: Path) -> None:
    picture = read_pictures(photos, LOOK).pictures[0]
    assert (picture.size, picture.thumb.shape, picture.pixels.shape) == ((120, 90), (32, 32, 3), (64, 64, 3))
    data = (photos / "cup" / "0.jpg").read_bytes()
    np.testing.assert_array_equal(picture.thumb, thumbnail(Image.open(io.BytesIO(data))))
