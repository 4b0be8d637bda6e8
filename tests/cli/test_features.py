"""Features instead of pictures, in every command that takes a support set or a model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk import adapt_features, save
from tests.adaptation.test_features import clusters
from tests.conftest import Run, draw_folder


def table(path: Path, n: int, *, seed: int = 0, labelled: bool = True) -> Path:
    """A CSV of n rows of each class."""
    rows, labels = clusters(n, columns=4, seed=seed)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow([*["label"] * labelled, *(f"x{i}" for i in range(4))])
        out.writerows([*[label] * labelled, *row] for row, label in zip(rows.tolist(), labels, strict=True))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("model")
    return save(adapt_features(table(where / "support.csv", 8)), where / "model")


def test_a_csv_goes_the_whole_way(run: Run, tmp_path: Path) -> None:
    support, new, truth = (table(tmp_path / f"{name}.csv", 8, seed=seed) for seed, name in enumerate("abc"))
    folder, file, out = tmp_path / "model", tmp_path / "model.onnx", tmp_path / "out.csv"
    code, printed, err = run("adapt", "--support", support, "--output", folder, "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert (found["initialization"], found["images"], len(found["labels"])) == ("embeddings", 24, 3)
    assert "all 24 held-out rows right" in err
    page, card = ((folder / name).read_text() for name in ("report.html", "README.md"))
    assert "24 rows of 3 classes" in page
    assert "picture" not in page.partition("</style>")[2]
    assert "picture" not in card
    assert run("export", folder, "--output", file)[0] == 0
    for opened in (folder, file):
        assert run("predict", opened, new, "--csv", out)[0] == 0
        rows = list(csv.DictReader(out.read_text().splitlines()))
        out.unlink()
        assert [row["nearest"] for row in rows] == clusters(8)[1]
        assert rows[0]["path"] == f"{new}, row 2"
        code, printed, _ = run("test", opened, truth)
        assert code == 0
        assert "of 24 rows (95 % interval" in printed


def test_numpys_files_are_as_good_as_a_csv(run: Run, tmp_path: Path) -> None:
    rows, labels = clusters(8, columns=4)
    np.savez(tmp_path / "support.npz", features=rows, labels=labels)
    np.save(tmp_path / "support.npy", rows)
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    forms: list[tuple[object, ...]] = [
        (table(tmp_path / "support.csv", 8),), (tmp_path / "support.npz",),
        (tmp_path / "support.npy", "--labels", tmp_path / "labels.txt"),
    ]  # fmt: skip
    answers = []
    for i, form in enumerate(forms):
        assert run("adapt", "--support", *form, "--output", tmp_path / f"model{i}")[0] == 0
        answers.append(run("predict", tmp_path / f"model{i}", tmp_path / "support.npy", "--json")[1])
    assert answers[0] == answers[1] == answers[2]
    assert run("test", tmp_path / "model0", *forms[2])[1].startswith("100.0%")


def test_rows_are_added_later(run: Run, model: Path, tmp_path: Path) -> None:
    more = table(tmp_path / "more.csv", 4, seed=5)
    code, _, err = run("adapt", "--extend", model, "--support", more, "--output", tmp_path / "larger")
    assert code == 0, err
    assert "adapted again to the old rows and the new" in err
    assert "all 36 held-out rows right" in err


def test_the_doctor_reads_rows(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("label,a,b\ncat,1,2\ncat,1,2\ndog,1,2\ndog,3,4\n")
    code, out, err = run("doctor", path)
    assert code == 1
    assert "have the same numbers under different labels" in out
    assert "4 rows of 2 classes read: 1 error" in err
    assert run("adapt", "--support", path, "--output", tmp_path / "model")[0] == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("predict", "MODEL", "photo.jpg"), "photo.jpg: expected a .csv, .npy or .npz, because this classifier takes"),
        (("predict", "MODEL", "NEW", "--move-to", "DIR"), "takes features, and --move-to is for pictures"),
        (("export", "MODEL", "--bundle", "DIR"), "takes features, and a --bundle is for pictures"),
        (("export", "MODEL", "--output", "FILE.onnx", "--precision", "int8"), "one small layer"),
        (("adapt", "--support", "NEW", "--delta", "int8", "--output", "DIR"), "NEW holds features: leave out"),
        (
            ("adapt", "--support", "LABELLED", "--method", "reptile", "--output", "DIR"),
            "no network that steps could move",
        ),
        (("adapt", "--support", "DRAWN", "--labels", "NEW", "--output", "DIR"), "--labels is for features in a .npy"),
        (("adapt", "--extend", "MODEL", "--support", "DRAWN", "--output", "DIR"), "DRAWN: expected a .csv with a col"),
        (("test", "MODEL", "NEW"), "NEW: it has no labels"),
        (("doctor", "NEW"), "no column is named label"),
    ],
)
def test_what_does_not_fit_features_is_refused(
    run: Run, model: Path, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    places = {
        "MODEL": model, "LABELLED": table(tmp_path / "labelled.csv", 3),
        "NEW": table(tmp_path / "new.csv", 2, labelled=False), "DIR": tmp_path / "dir",
        "FILE.onnx": tmp_path / "file.onnx", "DRAWN": draw_folder(tmp_path / "drawn"),
    }  # fmt: skip
    code, _, err = run(*(places.get(word, word) for word in words))
    assert code != 0
    for name in ("NEW", "DRAWN"):
        complaint = complaint.replace(name, str(places[name]))
    assert complaint in err.replace("\n", " ")


def test_a_server_of_features_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    assert run("export", model, "--output", tmp_path / "model.onnx")[0] == 0
    code, _, err = run("serve", tmp_path / "model.onnx")
    assert code == 1
    assert "takes features, and fewshot serve is for pictures" in err
