"""Reading features and their labels, and what the doctor says of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk.config.recipe import Rows
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.feature_doctor import examine_features
from fewshot_sdk.images.features import _texts, from_arrays, has_features, read_features

TABLE = "label,width,height\ncat,1,2\ncat,1.5,2.5\ndog,-3,4e1\ndog,3.5,4.5\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "features.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_has_its_labels_and_its_columns(tmp_path: Path) -> None:
    table = read_features(written(tmp_path, TABLE))
    assert table.labels == ("cat", "cat", "dog", "dog")
    assert table.rows == Rows(width=2, columns=("width", "height"))
    np.testing.assert_array_equal(table.features, np.array([[1, 2], [1.5, 2.5], [-3, 40], [3.5, 4.5]], np.float32))
    support = table.support()
    assert support.labels == ("cat", "dog")
    assert support.images.shape == (4, 1, 2, 1)


@pytest.mark.parametrize(
    "text",
    [
        TABLE.replace("label,", "animal,"),
        TABLE.replace(",", ";").replace(".", ","),
        TABLE.replace(",", "\t"),
        "width,height,label\n1,2,cat\n1.5,2.5,cat\n-3,40,dog\n3.5,4.5,dog\n",
    ],
    ids=["another name", "decimal commas", "tabs", "label last"],
)
def test_tables_are_read_as_people_write_them(tmp_path: Path, text: str) -> None:
    found = read_features(written(tmp_path, text))
    assert found.labels == ("cat", "cat", "dog", "dog")
    np.testing.assert_array_equal(found.features[2], [-3, 40])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("label,a\ncat,1\ncat,nan\ndog,2\n", r"row 3, column a: expected a number such as -1.5, found 'nan'"),
        ("label,a\ncat,1\ndog,inf\n", "row 3, column a: expected a number such as -1.5, found 'inf'"),
        ("label,a\ncat,1\ndog,1e300\n", "row 3, column a: expected a number within 3.4e38 of 0, found '1e300'"),
        ("label,a\ncat,1\ndog,blue\n", "row 3, column a: expected a number such as -1.5, found 'blue'"),
        ("label,a\ncat,1\ndog,\n", "row 3, column a: expected a number such as -1.5, found nothing"),
        ("label,a,b\ncat,1,2\ndog,1\n", "row 3: expected 3 columns as in row 1, found 2"),
        ("label,a\ncat,1\n,2\n", "row 3: expected a label in the column label, found nothing"),
        ("label,a\n", "expected rows of numbers under the header, found none"),
        ("label\ncat\n", "row 1: expected 1 to 16,384 columns of numbers, found 0"),
        ("cat,1,2\ndog,3,4\n", r"row 1: expected a header with the names of the columns, .* found 'cat,1,2'; add one"),
        (",label,a\n0,cat,1\n", r"column 1 has no name, like the row numbers that pandas writes; remove it"),
        ("label,a,a\ncat,1,2\n", "expected different names of columns, found a twice"),
        ("a,b\n1,2\n", "no column is named label, and none holds text"),
        ("a,b,c\ncat,x,2\n", "the columns a, b hold text; name the one of the labels label and remove the others"),
    ],
)
def test_a_wrong_table_is_told_with_its_row(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SupportError, match=complaint):
        read_features(written(tmp_path, text))


def test_one_class_alone_is_no_support_set(tmp_path: Path) -> None:
    with pytest.raises(SupportError, match=r"it holds only the class 'cat'; .* rows of at least 2 classes"):
        read_features(written(tmp_path, "label,a\ncat,1\ncat,2\n")).support()


def test_a_later_table_may_have_other_columns_in_another_order(tmp_path: Path) -> None:
    like = Rows(width=2, columns=("width", "height"))
    table = read_features(written(tmp_path, "note,height,id,width\nx,2,7,1\ny,4,8,3\n"), like=like)
    np.testing.assert_array_equal(table.features, [[1, 2], [3, 4]])
    assert table.names[1].endswith("features.csv, row 3")
    with pytest.raises(SupportError, match="expected a header with the columns width and height, found width,"):
        read_features(written(tmp_path, "width,depth\n1,2\n"), like=like)


def test_numpys_files_hold_features_and_labels(tmp_path: Path) -> None:
    features, labels = np.arange(6.0).reshape(3, 2), np.array(["a", "b", "b"])
    np.savez(tmp_path / "both.npz", features=features, labels=labels)
    np.save(tmp_path / "alone.npy", features.astype(np.float16))
    (tmp_path / "labels.txt").write_text("a\nb\nb\n")
    for table in (
        read_features(tmp_path / "both.npz"),
        read_features(tmp_path / "alone.npy", tmp_path / "labels.txt"),
        from_arrays(features, list(labels)),
    ):
        assert table.labels == ("a", "b", "b")
        np.testing.assert_array_equal(table.features, features.astype(np.float32))
    assert read_features(tmp_path / "alone.npy").labels == ()


def test_wrong_arrays_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", x=np.zeros((2, 2)))
    with pytest.raises(SupportError, match="expected an array `features`, found x"):
        read_features(tmp_path / "odd.npz")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(SupportError, match="it holds Python objects: save labels as"):
        read_features(tmp_path / "objects.npy")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(SupportError, match="cannot be read as NumPy's file"):
        read_features(tmp_path / "text.npz")
    np.save(tmp_path / "nan.npy", np.array([[1.0, 2.0], [3.0, np.nan]]))
    with pytest.raises(SupportError, match=r"nan.npy, row 1, column 1: expected a finite number, found nan"):
        read_features(tmp_path / "nan.npy")
    with pytest.raises(SupportError, match="expected a label for each of 2 rows, found 1"):
        from_arrays(np.zeros((2, 2)), ["a"])
    with pytest.raises(SupportError, match=r"expected numbers \(rows, columns\), at least one of each, found <U1"):
        from_arrays(np.array([["a"]]), ["a"])


HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }"


BAD_HEADERS = [HEADER.replace(b"}", b""), HEADER.replace(b"2, 2", b"2**99"), b"(" * 9000, b"\0", b""]


@pytest.mark.parametrize("header", BAD_HEADERS)
def test_whatever_numpys_parser_says_of_a_damaged_header_it_is_one_sentence(tmp_path: Path, header: bytes) -> None:
    damaged = tmp_path / "damaged.npy"
    damaged.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(32))
    with pytest.raises(SupportError, match=r"cannot be read as NumPy's file"):
        read_features(damaged)


def test_a_damaged_compressed_array_is_one_sentence(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", features=np.random.default_rng(0).normal(size=(40, 9)))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[90:120] = b"\xff" * 30
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(SupportError, match=r"cannot be read as NumPy's file"):
        read_features(tmp_path / "a.npz")


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("features.npy", b"no array")
    with pytest.raises(SupportError, match=r"expected numbers \(rows, columns\), at least one of each, found \|S8"):
        read_features(tmp_path / "a.npz")


def test_a_signalling_nan_is_refused_without_a_warning(tmp_path: Path) -> None:
    signalling = np.array([[0x7FF0000000000001, 0]], np.uint64).view(np.float64)
    np.save(tmp_path / "a.npy", signalling)
    with pytest.raises(SupportError, match="expected a finite number, found nan"):
        read_features(tmp_path / "a.npy")


def test_labels_that_take_no_room_are_counted_before_they_are_listed(tmp_path: Path) -> None:
    labels = np.ndarray((10**12,), "S1", buffer=b"a", strides=(0,))
    with pytest.raises(SupportError, match=r"a label for each of 2 rows, found 1,000,000,000,000"):
        _texts(labels, 2, tmp_path)


def test_tables_of_pictures_and_of_points_are_not_features(tmp_path: Path) -> None:
    assert has_features(written(tmp_path, TABLE))
    assert not has_features(written(tmp_path, "path,label\n1.png,cat\n"))
    assert not has_features(written(tmp_path, "x,y\n1,2\n"))
    assert has_features(written(tmp_path, "label,x,y\ncat,1,2\n"))
    assert not has_features(written(tmp_path, 'sep=;\n"path";label\n"1\n.png";cat\n'))
    assert has_features(written(tmp_path, '\ufeffsep=;\nlabel;"a\nb"\ncat;1\n'))
    assert not has_features(tmp_path)


def test_the_doctor_names_rows() -> None:
    rows = np.array([[1, 2], [1, 2], [3, 4], [3, 4], [0, 0], [5e4, 1], [1, 3], [2, 5]], float)
    found = examine_features(from_arrays(rows, ["a", "a", "a", "b", "b", "b", "c", "c"], "table"))
    assert [(finding.severity, finding.code) for finding in found] == [
        ("error", "contradiction"), ("warning", "duplicate"), ("warning", "blank"), ("warning", "scale"),
        ("warning", "few-shots"),
    ]  # fmt: skip
    assert found[0].message.startswith("table, rows 2, 3 have the same numbers under different labels")
    assert "table, row 5: more than 100 times as long as most rows" in found[3].message
    assert found[4].message.startswith("too few rows to estimate the accuracy: c (2)")


def test_the_doctor_names_columns_that_tell_nothing() -> None:
    rows = np.array([[1, 7, 2], [2, 7, 4], [3, 7, 1], [4, 7, 3], [2, 7, 3], [1, 7, 1]], float)
    (found,) = examine_features(from_arrays(rows, ["a", "a", "a", "b", "b", "b"]))
    assert (found.code, found.message) == (
        "constant", "the column 1: the same number in every row, which tells nothing"
    )  # fmt: skip
