"""FewShotClassifier among scikit-learn's own tools."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewshot_sdk import Predictor, adapt, export_onnx
from fewshot_sdk.adaptation.features import adapt_features
from fewshot_sdk.artifacts.initialization import Initialization
from tests.adaptation.test_features import clusters
from tests.conftest import draw_folder

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from fewshot_sdk.sklearn import FewShotClassifier

CHEAP: dict[str, Any] = {"method": "probe", "reject_rate": None}
EXPECTED_FAILURES: dict[str, str] = {}  # check -> why it cannot pass


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """The paths of drawings, and their labels."""
    folder = draw_folder(tmp_path_factory.mktemp("drawn") / "in")
    paths = sorted(folder.rglob("*.png"))
    return [str(path) for path in paths], [path.parent.name for path in paths]


@pytest.fixture
def cheap(init: Initialization) -> FewShotClassifier:
    return FewShotClassifier(init, method="prototypes", reject_rate=None)


@pytest.mark.slow
def test_scikit_learns_own_checks_pass_for_rows() -> None:
    found = check_estimator(FewShotClassifier(), expected_failed_checks=EXPECTED_FAILURES, on_skip=None)
    assert {one["check_name"] for one in found if one["status"] == "xfail"} == EXPECTED_FAILURES.keys()


@pytest.mark.parametrize(
    "name",
    [
        "check_fit2d_1sample", "check_classifiers_one_label", "check_n_features_in_after_fitting",
        "check_estimator_sparse_tag", "check_estimators_unfitted", "check_classifiers_regression_target",
    ],
)  # fmt: skip
def test_scikit_learns_checks_pass(name: str) -> None:
    from sklearn.utils import estimator_checks

    getattr(estimator_checks, name)("FewShotClassifier", FewShotClassifier(**CHEAP))


def test_it_is_adapt_on_pictures(
    init: Initialization, drawn: tuple[list[str], list[str]], cheap: FewShotClassifier
) -> None:
    paths, labels = drawn
    plain = adapt(init, Path(paths[0]).parents[1], method="prototypes", reject_rate=None)
    fitted = cheap.fit(paths, labels)
    assert list(fitted.classes_) == sorted(set(labels))
    expected = [list(one.probabilities.values()) for one in plain.predict(paths)]
    np.testing.assert_allclose(fitted.predict_proba(paths), expected, atol=1e-6)
    assert fitted.score(paths, labels) == np.mean(fitted.predict(paths) == labels)
    assert not hasattr(fitted, "n_features_in_")


def test_pictures_come_in_every_form(drawn: tuple[list[str], list[str]], cheap: FewShotClassifier) -> None:
    paths, labels = drawn
    expected = cheap.fit(paths, labels).predict_proba(paths)
    opened = [Image.open(path).convert("L") for path in paths]
    arrays = [np.asarray(image) for image in opened]
    for given in (
        np.array(paths), [Path(path) for path in paths], [Path(path).read_bytes() for path in paths], opened, arrays,
        np.stack(arrays), np.stack(arrays)[..., None].repeat(3, -1),
    ):  # fmt: skip
        np.testing.assert_array_equal(clone(cheap).fit(given, labels).predict_proba(given), expected)


def test_it_is_adapt_features_on_rows() -> None:
    rows, labels = clusters(6)
    expected = adapt_features(rows, labels)
    fitted = FewShotClassifier().fit(rows, labels)
    strange = np.random.default_rng(5).normal(size=(20, rows.shape[1])) * 3
    answers = expected.predict(list(strange))
    np.testing.assert_array_equal(fitted.predict(strange), [one.nearest for one in answers])
    np.testing.assert_array_equal(fitted.is_known(strange), [one.label is not None for one in answers])
    assert not fitted.is_known(strange).all()
    assert fitted.n_features_in_ == rows.shape[1]


def test_columns_of_probabilities_follow_the_sorted_classes() -> None:
    rows, labels = clusters(4)
    numbers = np.array([[10, 9, -2][int(label[-1])] for label in labels])  # sorted otherwise as text
    fitted = FewShotClassifier(**CHEAP).fit(rows, numbers)
    assert fitted.classes_.tolist() == [-2, 9, 10]
    np.testing.assert_array_equal(fitted.predict(rows), numbers)
    np.testing.assert_array_equal(fitted.classes_[fitted.predict_proba(rows).argmax(1)], numbers)


def test_pipelines_and_searches_take_it_and_what_they_find_can_be_pickled(
    drawn: tuple[list[str], list[str]], cheap: FewShotClassifier
) -> None:
    rows, labels = clusters(4)
    pipeline = make_pipeline(StandardScaler(), FewShotClassifier(**CHEAP))
    assert cross_val_score(pipeline, rows, labels, cv=2).mean() > 0.8
    paths, names = drawn
    opened = make_pipeline(FunctionTransformer(lambda paths: [Image.open(path) for path in paths]), clone(cheap))
    np.testing.assert_array_equal(opened.fit(paths, names).predict(paths), cheap.fit(paths, names).predict(paths))
    search = GridSearchCV(cheap, {"method": ["prototypes", "probe"]}, cv=2).fit(paths, names)
    assert search.best_params_["method"] in ("prototypes", "probe")
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict_proba(paths), search.predict_proba(paths))


@pytest.mark.slow
def test_other_processes_take_it(drawn: tuple[list[str], list[str]], cheap: FewShotClassifier) -> None:
    paths, labels = drawn
    np.testing.assert_array_equal(
        cross_val_score(cheap, paths, labels, cv=2, n_jobs=2), cross_val_score(cheap, paths, labels, cv=2)
    )


def test_the_classifier_inside_can_be_exported(tmp_path: Path) -> None:
    rows, labels = clusters(4)
    fitted = FewShotClassifier(**CHEAP).fit(rows, labels)
    predictor = Predictor(export_onnx(fitted.classifier_, tmp_path / "model.onnx").path)
    np.testing.assert_allclose(predictor.probabilities(rows.astype(np.float32)), fitted.predict_proba(rows), atol=1e-5)


def test_a_random_state_is_drawn_from(init: Initialization, drawn: tuple[list[str], list[str]]) -> None:
    steps: dict[str, Any] = {"method": "reptile", "steps": 2, "reject_rate": None}
    states = (1, 1, np.random.RandomState(3), None)
    seeds = [
        FewShotClassifier(init, random_state=state, **steps).fit(*drawn).classifier_.config.seed for state in states
    ]
    assert seeds[:2] == [1, 1]
    assert len(set(seeds)) == 3


def test_what_cannot_be_fitted_is_a_value_error(drawn: tuple[list[str], list[str]], cheap: FewShotClassifier) -> None:
    paths, labels = drawn
    with pytest.raises(NotFittedError):
        cheap.predict(paths)
    with pytest.raises(ValueError, match="two or more classes, found 1 class"):
        cheap.fit(paths, ["one"] * len(paths))
    with pytest.raises(ValueError, match=r"there is no such file; check its name"):
        cheap.fit([*paths[:-1], "missing.png"], labels)
    with pytest.raises(ValueError, match="expected as many labels as pictures, found 1 and"):
        cheap.fit(paths, labels[:1])
    with pytest.raises(ValueError, match="was fitted on pictures, found something else"):
        cheap.fit(paths, labels).predict(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="found a single one; put it in a list"):
        cheap.predict(paths[0])
    with pytest.raises(ValueError, match="no network that steps could move"):
        FewShotClassifier(method="reptile").fit(*clusters(3))
