"""`FewShotClassifier`: adapting, as scikit-learn's estimators do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot_sdk.adaptation.adaptation import REJECT_RATE, compare_and_adapt, settings_of, suitable
from fewshot_sdk.adaptation.features import compare_features
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.artifacts.opening import load, load_bundled
from fewshot_sdk.config.recipe import Preprocessing, Rows
from fewshot_sdk.config.records import Method
from fewshot_sdk.errors import FewshotError, MissingExtra
from fewshot_sdk.images.examination import Examined
from fewshot_sdk.images.features import as_images
from fewshot_sdk.images.preprocessing import Picture, Pixels, preprocess
from fewshot_sdk.images.support import SupportSet

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError:
    raise MissingExtra("scikit-learn is not installed; run: pip install 'fewshot-sdk[sklearn]'") from None

Examples: TypeAlias = Sequence[Picture] | Sequence[Sequence[float]] | NDArray[np.generic]
AT_ONCE = 256  # pictures: bounds the memory


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies pictures, or rows of features, after adapting to a few of each class.

    X: pictures: a sequence of paths, bytes of files, Pillow images or uint8 arrays, or an array uint8
    (n, height, width[, 3]); or rows of features, numbers (n, n_features), for which there is no initialization.

    init: for pictures, the name of an initialization, its folder or an `Initialization`; `auto` chooses among the
    bundled ones. method, steps, reject_rate: as for `adapt`. random_state: for the order of mini-batches and folds.

    `predict` always answers with one of the classes, as scikit-learn expects; `is_known` tells which of these answers
    `fewshot` would give as `unknown`. The doctor is not asked: see `fewshot doctor`.

    classes_: the classes, sorted; classifier_: the fitted `Classifier`, to `save` or to `export_onnx`, which names
    classes as text; n_features_in_, feature_names_in_: of rows of features.
    """

    def __init__(
        self,
        init: str | Path | Initialization = "photo",
        *,
        method: Method | Literal["auto"] = "auto",
        steps: int | None = None,
        reject_rate: float | None = REJECT_RATE,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.init = init
        self.method = method
        self.steps = steps
        self.reject_rate = reject_rate
        self.random_state = random_state

    def fit(self, X: Examples, y: Sequence[object] | NDArray[np.generic]) -> Self:
        """The same estimator, adapted to the examples `X` of the classes `y`.

        Raises ValueError for unusable examples, fewer than two classes, or settings that do not fit.
        """
        pictures, rows = _pictures(X), np.empty((0, 0), np.float32)
        if pictures is None:
            rows, y = validate_data(self, X, y, dtype=np.float32)
        elif y is None:
            raise ValueError("this FewShotClassifier requires y to be passed, but the target y is None")
        labels = column_or_1d(np.asarray(y), warn=True)
        check_classification_targets(labels)
        if pictures is not None and len(pictures) != len(labels):
            raise ValueError(f"expected as many labels as pictures, found {len(labels)} and {len(pictures)}")
        self.classes_ = np.unique(labels)
        names = sorted({str(name) for name in self.classes_})
        if len(self.classes_) < 2 or len(names) < len(self.classes_):
            raise ValueError(f"FewShotClassifier needs two or more classes, found {len(names)} class: {names}")
        targets = np.asarray([names.index(str(label)) for label in labels], np.int64)
        order = np.argsort(targets, kind="stable")

        def support(images: Pixels) -> SupportSet:
            return SupportSet(labels=tuple(names), images=images[order], targets=targets[order])

        method = self.method if self.steps is None or self.method != "auto" else "reptile"
        share, seed = self.reject_rate, self._seed()
        with _as_value_errors():
            if pictures is None:
                examined = Examined(
                    supports={Rows(width=rows.shape[1], columns=self._columns()): support(as_images(rows))}
                )
                made = compare_features(examined, method=method, reject_rate=share, seed=seed)
            else:
                inits = self._inits()
                seen = {settings: support(_stacked(pictures, settings)) for settings in settings_of(inits, method)}
                made = compare_and_adapt(
                    inits, Examined(supports=seen), method=method, steps=self.steps, reject_rate=share, seed=seed
                )
        self.classifier_ = made.classifier
        return self

    def predict(self, X: Examples) -> NDArray[np.generic]:
        """The most probable class of each example, (n,); unknown ones get their nearest class: see `is_known`."""
        best = self.predict_proba(X).argmax(1)
        found: NDArray[np.generic] = self.classes_[best]
        return found

    def predict_proba(self, X: Examples) -> NDArray[np.float32]:
        """The probability of each class, (n, n_classes), in the order of `classes_`."""
        return self._answers(X)[0]

    def is_known(self, X: Examples) -> NDArray[np.bool_]:
        """Whether each example seems to be of one of the classes, (n,); False is `unknown`."""
        return self._answers(X)[1]

    def _answers(self, X: Examples) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        check_is_fitted(self, "classifier_")
        classifier, pictures = self.classifier_, _pictures(X)
        settings = classifier.preprocessing
        if isinstance(settings, Rows):
            rows = validate_data(self, X, reset=False, dtype=np.float32)
            probabilities, known = classifier.answers(as_images(rows))
        elif pictures is None:
            raise ValueError("this FewShotClassifier was fitted on pictures, found something else")
        else:
            with _as_value_errors():
                parts = [classifier.answers(_stacked(part, settings)) for part in _parts(pictures)]
            probabilities, known = (np.concatenate(part) for part in zip(*parts, strict=True))
        columns = [classifier.labels.index(str(name)) for name in self.classes_]
        return probabilities[:, columns], known

    def _columns(self) -> tuple[str, ...]:
        """The names of the columns of a data frame, as `fewshot predict` looks for them in a CSV."""
        names = tuple(str(name).strip().lower() for name in getattr(self, "feature_names_in_", ()))
        return names if len(set(names)) == len(names) else ()

    def _inits(self) -> dict[str, Initialization]:
        if isinstance(self.init, Initialization):
            return {self.init.recipe.preset: self.init}
        return suitable(load_bundled()) if self.init == "auto" else {str(self.init): load(self.init)}

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))


def _pictures(given: Examples) -> Sequence[Picture] | None:
    """The examples as a sequence of pictures; None if they are something else, such as rows of numbers."""
    if isinstance(given, str | bytes | Path | Image.Image):
        raise ValueError("expected a list of pictures, found a single one; put it in a list: [it]")
    if isinstance(given, np.ndarray) and given.ndim in (3, 4):
        return list(given)
    if len(getattr(given, "shape", (0,))) != 1 or not hasattr(given, "__len__"):  # a data frame, a sparse matrix
        return None
    each = list(given)
    if each and isinstance(each[0], np.ndarray):
        return cast("list[Pixels]", each) if each[0].ndim >= 2 else None
    of_files = bool(each) and isinstance(each[0], str | bytes | Path | Image.Image)
    return cast("list[Picture]", each) if of_files else None


def _parts(pictures: Sequence[Picture]) -> Iterator[Sequence[Picture]]:
    yield from (pictures[i : i + AT_ONCE] for i in range(0, len(pictures), AT_ONCE))


def _stacked(pictures: Sequence[Picture], settings: Preprocessing) -> Pixels:
    return np.stack([preprocess(picture, settings) for picture in pictures])


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """scikit-learn's tools expect a ValueError for what cannot be used."""
    try:
        yield
    except FewshotError as error:
        raise ValueError(str(error)) from error
