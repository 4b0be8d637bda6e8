"""Rows of numbers in place of pictures: features with labels, from a CSV or from NumPy's files."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.recipe import MAX_COLUMNS, Rows
from fewshot_sdk.errors import SupportError, first_few, listed
from fewshot_sdk.images.preprocessing import Pixels
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.images.tables import Cells, header_of, numbers_in, read_cells
from fewshot_sdk.images.zips import zip_of
from fewshot_sdk.storage.files import read_bounded

Floats: TypeAlias = NDArray[np.float32]
LABEL, PATH = "label", "path"
SUFFIXES = (".csv", ".npy", ".npz")
_MAX_BYTES, _MAX_CSV_BYTES, _MAX_ROWS, _MAX_LABEL = 2**30, 2**28, 1_000_000, 200
_MAX_ARRAYS = 1000
_FORMS = "expected a .csv with a column label, a .npz with features and labels, or a .npy with --labels"


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTable:
    """Features, float32 (n, columns), finite; their labels, (n,), or none; and what messages call each row, (n,).

    columns: their names in a CSV, else none.
    """

    source: str
    features: Floats
    labels: tuple[str, ...]
    names: tuple[str, ...]
    columns: tuple[str, ...] = ()

    @property
    def rows(self) -> Rows:
        """The settings of a classifier of such rows."""
        return Rows(width=self.features.shape[1], columns=self.columns)

    def support(self, least: int = 2) -> SupportSet:
        """The rows as a support set: classes sorted, in the order of the table within each.

        Raises SupportError for fewer than `least` classes.
        """
        labels = [unicodedata.normalize("NFC", label) for label in self.labels]  # é may be two codes
        classes = tuple(sorted(set(labels)))
        if len(classes) < least:
            found = f"it holds only the class {classes[0]!r}" if classes else "it has no labels"
            raise SupportError(f"{self.source}: {found}; {_FORMS}, and rows of at least {least} classes")
        targets = np.asarray([classes.index(label) for label in labels], np.int64)
        order = np.argsort(targets, kind="stable")
        return SupportSet(labels=classes, images=as_images(self.features[order]), targets=targets[order])


def as_images(rows: Floats) -> Pixels:
    """Rows (n, columns) as a network takes them, float32 (n, 1, columns, 1), in place of pictures."""
    return cast(Pixels, rows[:, None, :, None])


def has_features(source: Path) -> bool:
    """Whether a support set has features: NumPy's files, and a CSV that has no `path`, as one of pictures has.

    A CSV of x and y without a `label` has points of a curve.
    """
    suffix = source.suffix.lower()
    if suffix != ".csv" or not source.is_file():
        return suffix in SUFFIXES and source.is_file()
    header = set(header_of(source))
    return PATH not in header and (LABEL in header or not {"x", "y"} <= header)


def read_features(source: str | Path, labels: str | Path | None = None, like: Rows | None = None) -> FeatureTable:
    """The features in a file, and their labels if it has any.

    A CSV has a header; its labels are in the column `label`, or in the only column that holds text. A .npz holds
    `features`, (n, columns), and perhaps `labels`, (n,); a .npy holds features alone.
    labels: a text file with a label in each line, for a .npy or .npz. like: the columns to look for in a CSV, whose
    others are ignored, or the number that there must be.
    Raises SupportError, naming the row, for a number that is missing or not finite, and for other files.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise SupportError(f"{path}: {_FORMS}")
    if suffix == ".csv":
        if labels is not None:
            raise SupportError(f"{path}: a CSV has its own labels; leave out {labels}")
        found = _from_csv(path, like)
    else:
        found = _from_numpy(path, labels)
    if like is not None and found.features.shape[1] != like.width:
        raise SupportError(
            f"{path}: expected {like.width} columns of numbers, as the classifier learned from, found "
            f"{found.features.shape[1]}"
        )
    return found


def from_arrays(
    features: NDArray[np.floating] | Sequence[Sequence[float]], labels: Sequence[object], source: str = "features"
) -> FeatureTable:
    """Features and labels in memory as a table. Raises SupportError as `read_features` does, counting rows from 0."""
    rows = _checked(np.asarray(features), source, 0)
    texts = tuple(str(label) for label in labels)
    _check_labels(texts, len(rows), source)
    return FeatureTable(source=source, features=rows, labels=texts, names=_numbered(source, len(rows), 0))


def _from_csv(path: Path, like: Rows | None) -> FeatureTable:
    wanted = like.columns if like is not None else ()
    cells = read_cells(path, wanted, limit=_MAX_CSV_BYTES)
    if like is None or not like.columns:
        _check_header(cells, path)
    label = _label_column(cells, path, needed=like is None)
    columns = wanted or tuple(name for i, name in enumerate(cells.header) if i != label)
    if not columns or len(columns) > MAX_COLUMNS:
        raise SupportError(f"{path}, row 1: expected 1 to {MAX_COLUMNS:,} columns of numbers, found {len(columns):,}")
    if len(cells.rows) > _MAX_ROWS:
        raise SupportError(f"{path}: expected at most {_MAX_ROWS:,} rows, found {len(cells.rows):,}")
    features, wrong = numbers_in(cells, path, columns)
    labels = [] if label is None else ["".join(row[label : label + 1]) for _, row in cells.rows]
    wrong += [
        f"{path}, row {line}: expected a label in the column {cells.header[label or 0]}, found nothing"
        for (line, row), text in zip(cells.rows, labels, strict=False)
        if not text and len(row) == len(cells.header)
    ]
    if wrong:
        raise SupportError(first_few(wrong, "rows"))
    if not len(features):
        raise SupportError(f"{path}: expected rows of numbers under the header, found none")
    texts = tuple(labels)
    _check_labels(texts, len(texts), str(path))
    names = tuple(f"{path}, row {line}" for line, _ in cells.rows)
    return FeatureTable(source=str(path), features=features, labels=texts, names=names, columns=columns)


def _check_header(cells: Cells, path: Path) -> None:
    if any(_is_number(name) for name in cells.header):
        raise SupportError(
            f"{path}, row 1: expected a header with the names of the columns, such as label,x1,x2, found "
            f"{cells.delimiter.join(cells.header)[:60]!r}; add one"
        )
    if "" in cells.header:
        place = cells.header.index("") + 1
        raise SupportError(
            f"{path}, row 1: column {place} has no name, like the row numbers that pandas writes; remove it "
            "(index=False), or name it"
        )
    if twice := sorted({name for name in cells.header if cells.header.count(name) > 1}):
        raise SupportError(f"{path}, row 1: expected different names of columns, found {listed(twice)} twice")


def _label_column(cells: Cells, path: Path, *, needed: bool) -> int | None:
    """The place of the labels: the column of that name, or the only one with text in the first row."""
    if LABEL in cells.header:
        return cells.header.index(LABEL)
    first = cells.rows[0][1] if cells.rows else []
    text = [i for i, cell in enumerate(first[: len(cells.header)]) if cell and not _is_number(cell.replace(",", "."))]
    if len(text) == 1:
        return text[0]
    if not needed:
        return None
    if not any(cells.header):
        raise SupportError(f"{path}: it is empty; expected a header, such as label,x1,x2, and rows of numbers")
    if not text:
        raise SupportError(
            f"{path}, row 1: no column is named label, and none holds text; name the one of the labels; for numbers "
            "name an initialization for them, such as --init sine"
        )
    names = listed([cells.header[i] for i in text])
    raise SupportError(
        f"{path}, row 1: the columns {names} hold text; name the one of the labels label and remove the others"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_numpy(path: Path, labels: str | Path | None) -> FeatureTable:
    data = read_bounded(path, _MAX_BYTES, SupportError, _FORMS)
    texts: tuple[str, ...] = ()
    try:
        if path.suffix.lower() == ".npy":
            features = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            with zip_of(io.BytesIO(data), path, _MAX_ARRAYS) as archive:
                if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                    raise SupportError(f"{path}: expected at most 1 GiB of numbers; keep fewer rows")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                if "features" not in arrays:
                    raise SupportError(
                        f"{path}: expected an array `features`, found {listed(sorted(arrays)) or 'none'}"
                    )
                features = arrays["features"]
                if "labels" in arrays:
                    texts = _texts(np.atleast_1d(arrays["labels"]), len(np.atleast_1d(features)), path)
    except SupportError:
        raise
    except Exception as error:  # NumPy's parsers raise anything from ValueError to tokenize.TokenError and zlib.error
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        if reason.startswith("Object arrays"):
            reason = "it holds Python objects: save labels as labels.astype(str)"
        raise SupportError(f"{path}: it cannot be read as NumPy's file ({reason}); {_FORMS}") from None
    rows = _checked(np.asarray(features), str(path), 0)  # a member of a .npz that is no array comes as bytes
    if labels is not None:
        text = read_bounded(Path(labels), _MAX_BYTES, SupportError, "expected a text file with a label in each line")
        try:
            texts = tuple(line.strip() for line in text.decode("utf-8-sig").splitlines())
        except UnicodeDecodeError:
            raise SupportError(f"{labels}: it is not UTF-8 text; save it as UTF-8") from None
    if texts:
        _check_labels(texts, len(rows), str(labels or path))
    names = _numbered(str(path), len(rows), 0)
    return FeatureTable(source=str(path), features=rows, labels=texts, names=names)


def _texts(labels: NDArray[np.generic], n: int, path: Path) -> tuple[str, ...]:
    """An array's labels. Raises SupportError unless there are n: an array without bytes may have any size."""
    if labels.size != n:
        raise SupportError(f"{path}: expected a label for each of {n:,} rows, found {labels.size:,}")
    return tuple(str(label) for label in labels.ravel().tolist())


def _checked(features: NDArray[np.generic], source: str, first: int) -> Floats:
    """Features as float32. Raises SupportError, naming the first row that is not finite."""
    if features.ndim != 2 or features.dtype.kind not in "fiu" or 0 in features.shape:
        raise SupportError(
            f"{source}: expected numbers (rows, columns), at least one of each, found {features.dtype} "
            f"{list(features.shape)}"
        )
    if features.shape[1] > MAX_COLUMNS or len(features) > _MAX_ROWS:
        raise SupportError(
            f"{source}: expected at most {_MAX_ROWS:,} rows of {MAX_COLUMNS:,} columns, found {list(features.shape)}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.ascontiguousarray(features, np.float32)
    finite = np.isfinite(rows).all(1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        column = int(np.flatnonzero(~np.isfinite(rows[row]))[0])
        found = features[row, column]
        wanted = "a number within 3.4e38 of 0" if np.isfinite(found) else "a finite number"
        raise SupportError(f"{source}, row {row + first}, column {column}: expected {wanted}, found {found}")
    return rows


def _check_labels(labels: Sequence[str], n: int, source: str) -> None:
    if len(labels) != n:
        raise SupportError(f"{source}: expected a label for each of {n:,} rows, found {len(labels):,}")
    for i, label in enumerate(labels):
        if not label.strip() or not label.isprintable() or len(label) > _MAX_LABEL:
            raise SupportError(
                f"{source}, label {i}: expected 1 to {_MAX_LABEL} printable characters, found {label[:60]!r}"
            )


def _numbered(source: str, n: int, first: int) -> tuple[str, ...]:
    return tuple(f"{source}, row {i + first}" for i in range(n))
