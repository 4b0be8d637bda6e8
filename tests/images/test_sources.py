from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk import adapt
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.sources import LabelFrom, open_source
from fewshot_sdk.images.support import SupportSet, read_support
from tests.conftest import draw_folder


def listed(source: Path, label_from: LabelFrom = "folder") -> list[tuple[str, str]]:
    with open_source(source, label_from) as files:
        return [(file.label, Path(file.name.partition(" (")[0]).name) for file in files]


def zipped(folder: Path, inside: str = "") -> Path:
    target = folder.parent / "pictures.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{inside}{file.relative_to(folder)}")
    return target


def flat(folder: Path) -> Path:
    target = folder.parent / "flat"
    target.mkdir()
    for file in folder.glob("*/*"):
        (target / f"{file.parent.name}_{int(file.stem):03}{file.suffix}").write_bytes(file.read_bytes())
    return target


def table(folder: Path, text: str | bytes | None = None) -> Path:
    if text is None:
        files = sorted(folder.glob("*/*"))
        text = "path,label\n" + "".join(f"{file.relative_to(folder.parent)},{file.parent.name}\n" for file in files)
    target = folder.parent / "labels.csv"
    target.write_bytes(text if isinstance(text, bytes) else text.encode())
    return target


def nested(folder: Path) -> Path:
    for file in sorted(folder.glob("*/*"))[::2]:
        deep = file.parent / "z" / "deeper"
        deep.mkdir(parents=True, exist_ok=True)
        file.rename(deep / file.name)
    return folder


def multiset(support: SupportSet) -> list[tuple[str, bytes]]:
    return sorted(
        (support.labels[t], image.tobytes()) for t, image in zip(support.targets, support.images, strict=True)
    )


@pytest.mark.parametrize("make", [flat, table, nested, zipped, lambda f: zipped(f, "my pictures/")])
def test_every_source_gives_the_pictures_and_labels_of_the_class_folders(
    recipe: Recipe, drawings: Path, make: Callable[[Path], Path]
) -> None:
    expected = read_support(drawings, recipe.preprocessing)
    label_from: LabelFrom = "name" if make is flat else "folder"
    found = read_support(make(drawings), recipe.preprocessing, label_from)
    assert found.labels == expected.labels
    assert found.targets.tolist() == expected.targets.tolist()
    assert multiset(found) == multiset(expected)
    if make is not nested:  # there the order within a class is that of the paths
        np.testing.assert_array_equal(found.images, expected.images)


@pytest.mark.parametrize("make", [table, nested, zipped])
def test_a_classifier_is_made_from_every_source(
    init: Initialization, drawings: Path, make: Callable[[Path], Path]
) -> None:
    assert adapt(init, make(drawings), steps=1, reject_rate=None).labels == ("ant", "bee", "cat")


def test_what_desktops_leave_behind_is_passed_over_everywhere(drawings: Path) -> None:
    expected = listed(drawings)
    (drawings / "ant" / "deep").mkdir()
    for place in (drawings, drawings / "ant", drawings / "ant" / "deep"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png"):
            (place / name).write_bytes(b"x")
        (place / "__MACOSX" / "ant").mkdir(parents=True)
        (place / "__MACOSX" / "ant" / "1.png").write_bytes(b"x")
        (place / ".hidden").mkdir()
        (place / ".hidden" / "1.png").write_bytes(b"x")
    assert listed(drawings) == expected
    assert listed(zipped(drawings)) == expected


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("cat_001.jpg", "cat"),
        ("cat-1.jpg", "cat"),
        ("cat1.jpg", "cat"),
        ("cat (12).jpg", "cat"),
        ("wild cat 3.jpg", "wild cat"),
        ("a_1_2.jpg", "a_1"),
        ("cat.jpg", "cat"),
    ],
)
def test_a_label_is_what_stands_before_the_number(tmp_path: Path, name: str, label: str) -> None:
    for file in (name, "other_1.jpg"):
        (tmp_path / file).write_bytes(b"x")
    assert {file: label for label, file in listed(tmp_path, "name")}[name.partition(" (")[0]] == label


def test_a_flat_folder_is_told_the_option(drawings: Path) -> None:
    with pytest.raises(SupportError, match=r"ant_000\.png, .* are in no class folder; .* --label-from name"):
        listed(flat(drawings))


def test_labels_from_names_need_names_and_no_folders(drawings: Path, tmp_path: Path) -> None:
    with pytest.raises(SupportError, match="holds the folders ant, bee, cat, but labels from names"):
        listed(drawings, "name")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "001.jpg").write_bytes(b"x")
    with pytest.raises(SupportError, match=r"no label before the number in 001\.jpg"):
        listed(tmp_path / "f", "name")
    with pytest.raises(SupportError, match="omit --label-from"):
        listed(table(drawings), "name")


def test_links_to_folders_end_nowhere(drawings: Path) -> None:
    expected = listed(drawings)
    (drawings / "ant" / "round").symlink_to(drawings, target_is_directory=True)
    assert listed(drawings) == expected
    (drawings / "ant").rename(drawings.parent / "elsewhere")
    (drawings / "ant").symlink_to(drawings.parent / "elsewhere", target_is_directory=True)
    assert listed(drawings) == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_among_the_pictures_does_not_hang(recipe: Recipe, drawings: Path) -> None:
    os.mkfifo(drawings / "ant" / "pipe.png")
    with pytest.raises(SupportError, match=r"pipe\.png is a pipe"):
        read_support(drawings, recipe.preprocessing)


@pytest.mark.parametrize(
    "text",
    [
        "label,path\nant,drawings/ant/0.png\nbee,drawings/bee/0.png\n",
        "\ufeffPath;Label;by\r\ndrawings\\ant\\0.png;ant;me\r\n;;\r\n\r\ndrawings/bee/0.png;bee;me",
        'path\tlabel\n"drawings/ant/0.png"\tant\ndrawings/bee/0.png\t bee \n',
    ],
)
def test_tables_of_all_countries_are_read(drawings: Path, text: str) -> None:
    source = table(drawings, text)
    assert listed(source) == [("ant", "0.png"), ("bee", "0.png")]
    with open_source(source) as files:
        assert [file.read()[:4] for file in files] == [b"\x89PNG"] * 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"labels\.csv, row 1: expected a header with the columns path and label, found none"),
        ("drawings/ant/0.png,ant\n", r"row 1: expected a header .* found drawings/ant/0\.png, ant"),
        ("path,label\na.png,ant\nb.png\n", r"row 3: expected a path and a label, found 'b\.png'"),
        ("path,label\na.png,ant\n,bee\n\nc.png,\n", r"(?s)row 3: .*',bee'.*row 5: .*'c\.png,'"),
        ("path,label\na\0.png,ant\n", r"row 2: expected a path and a label, found 'a\\x00\.png,ant'"),
        ("path,label\na.png,ant,fly\n", r"row 2: expected a path and a label, found 'a\.png,ant,fly'"),
        (b"path,label\na.png,ant\nb.png,b\xe9e\n", r"row 3: it is not UTF-8 text"),
        ('path,label\n"a.png,ant\n', r"row 2: unexpected end of data"),
        ("path,label\na.png,ant\n", "it holds only the class 'ant'"),
    ],
)
def test_a_wrong_table_is_told_by_row(drawings: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(SupportError, match=says):
        listed(table(drawings, text))


def test_a_missing_picture_is_told_with_its_row(recipe: Recipe, drawings: Path) -> None:
    source = table(drawings, "path,label\ndrawings/ant/0.png,ant\nnowhere.png,bee\n")
    with pytest.raises(SupportError, match=r"nowhere\.png.*no such file") as failure:
        read_support(source, recipe.preprocessing)
    assert "row 3" in str(failure.value)


@pytest.mark.parametrize("make", [lambda folder: folder, zipped])
def test_folders_of_nas_and_file_systems_are_no_classes(drawings: Path, make: Callable[[Path], Path]) -> None:
    expected = listed(drawings)
    for name in ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "ant/@eaDir"):
        (drawings / name).mkdir()
        (drawings / name / "SYNOPHOTO_THUMB_S.png").write_bytes((drawings / "ant" / "0.png").read_bytes())
    assert listed(make(drawings)) == expected


def test_a_query_needs_no_labels(tmp_path: Path, drawings: Path) -> None:
    assert [label for label, _ in listed(flat(drawings), "nothing")] == [""] * 12
    assert len(listed(draw_folder(tmp_path / "one", labels=("ant",)), "nothing")) == 4


def test_what_phones_put_beside_pictures_is_passed_over(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "set")
    for name in ("IMG_1.AAE", "0.png.json", "0.jpg.supplemental-metadata.json", "0.xmp"):
        (folder / "ant" / name).write_text("{}")
    with open_source(folder) as files:
        assert {Path(file.name).suffix for file in files} == {".png"}


def test_a_zip_of_one_folder_of_named_pictures(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "set", ("ant", "bee"), shots=1)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for label in ("ant", "bee"):
            archive.write(folder / label / "0.png", f"all/{label}_1.png")
    with open_source(tmp_path / "all.zip", "name") as files:
        assert [file.label for file in files] == ["ant", "bee"]


@pytest.mark.parametrize("head", ["sep=;\npath;label\n", "path;label;a, b\n"])
def test_a_table_as_spreadsheets_write_it(tmp_path: Path, head: str) -> None:
    draw_folder(tmp_path, ("ant", "bee"), shots=1)
    (tmp_path / "t.csv").write_text(f"{head}ant/0.png;ant\nbee/0.png;bee\n")
    with open_source(tmp_path / "t.csv") as files:
        assert [file.label for file in files] == ["ant", "bee"]


def test_an_accent_is_one_letter_however_it_is_written(tmp_path: Path) -> None:
    for name, label in (("1", "caf\u00e9"), ("2", "cafe\u0301"), ("3", "tea")):
        draw_folder(tmp_path / "set", (label,), shots=1, first=int(name))
    with open_source(tmp_path / "set") as files:
        assert [file.label for file in files] == ["caf\u00e9", "caf\u00e9", "tea"]
