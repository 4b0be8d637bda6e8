from __future__ import annotations

import pytest

from fewshot_sdk.config.records import Calibration, Confusion, CurvePoint
from fewshot_sdk.config.verdict import verdict_of
from fewshot_sdk.intervals import interval_of_share

N_WAY = 5


def measured(accuracy: float, pictures: int, **more: object) -> Calibration:
    fields: dict[str, object] = {
        "reject_rate": 0.05, "pictures": pictures, "folds": 5, "accuracy": accuracy, "standard_error": 0.0,
        "ece_before": 0.0, "ece": 0.0, "known_lost": 0.0, "guessing": 0.2,
    }  # fmt: skip
    return Calibration(**{**fields, **more})  # type: ignore[arg-type]


def curve(*accuracies: float) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(shots=2**i, accuracy=share, low=0, high=1) for i, share in enumerate(accuracies))


@pytest.mark.parametrize(
    ("accuracy", "pictures", "grade"),
    [
        (0.98, 100, "good"),
        (0.9, 100, "usable"),
        (0.8, 50, "perhaps usable"),
        (0.7, 50, "poor"),
        (0.54, 25, "poor"),
        (0.24, 25, "no better than guessing"),
    ],
)
def test_the_grade_is_decided_by_the_interval(accuracy: float, pictures: int, grade: str) -> None:
    assert verdict_of(measured(accuracy, pictures), N_WAY).grade == grade


def test_a_better_accuracy_never_gets_a_worse_grade() -> None:
    order = ["no better than guessing", "poor", "perhaps usable", "usable", "good"]
    for n in (10, 25, 50, 200):
        ranks = [order.index(verdict_of(measured(right / n, n), N_WAY).grade) for right in range(n + 1)]
        assert ranks == sorted(ranks)


def test_it_says_how_many_are_right_what_is_mixed_up_and_what_would_help() -> None:
    mixed = Confusion(first="shirt", second="t-shirt", pictures=3, of=40)
    found = measured(0.9, 100, confused=mixed, curve=curve(0.7, 0.8, 0.9))
    assert str(verdict_of(found, N_WAY)) == (
        "usable: about 9 of 10 right (82 to 95 %); shirt and t-shirt are mixed up; "
        "20 more pictures of each would help most"
    )


def test_a_poor_one_is_compared_with_guessing() -> None:
    assert verdict_of(measured(0.5, 50), N_WAY).accuracy == ("about 5 of 10 right (36 to 64 %), where guessing gives 2")


def test_classes_that_more_pictures_do_not_tell_apart_are_named_as_the_main_fault() -> None:
    mixed = Confusion(first="shirt", second="t-shirt", pictures=20, of=40)
    found = measured(0.8, 100, confused=mixed, curve=curve(0.78, 0.79, 0.8))
    assert "one class for both" in verdict_of(found, N_WAY).advice
    assert verdict_of(found.replace(confused=None), N_WAY).advice == "more pictures would change little"


def test_with_one_picture_of_each_class_nothing_can_be_told() -> None:
    verdict = verdict_of(None, N_WAY, n_support=5)
    assert str(verdict).startswith("cannot tell: there is one picture of each class")
    assert str(verdict_of(None, N_WAY, n_support=25)) == "cannot tell: no picture was held out to test it"


def test_an_interval_of_a_share_holds_the_share_and_shrinks_with_more_trials() -> None:
    for share in (0.0, 0.3, 1.0):
        widths = []
        for n in (5, 50, 500):
            low, high = interval_of_share(share, n)
            assert 0 <= low <= share <= high <= 1
            widths.append(high - low)
        assert widths == sorted(widths, reverse=True)
