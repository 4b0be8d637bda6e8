from __future__ import annotations

from fewshot_sdk.intervals import interval_of_share
from fewshot_sdk.runtime.scoring import ClassScore, Share, Trial, score


def trial(truth: str, answer: str | None, probability: float = 0.9) -> Trial:
    return Trial(name="a.jpg", truth=truth, answer=answer, nearest=answer or "cat", probability=probability)


FOUND = [
    *[trial("cat", "cat")] * 7, *[trial("cat", "dog", 0.6)] * 2, trial("cat", None),
    *[trial("dog", "dog")] * 3, trial("dog", "cat", 0.8),
    trial("cow", None), trial("cow", "dog", 0.7), trial("cow", None),
]  # fmt: skip


def test_accuracy_counts_unknown_as_wrong_and_leaves_out_classes_that_the_model_does_not_know() -> None:
    found = score(FOUND, ["cat", "dog"])
    low, high = interval_of_share(10 / 14, 14)
    assert found.accuracy == Share(count=10, n=14, low=low, high=high)
    assert found.unknown == 1


def test_pictures_of_other_classes_should_be_unknown() -> None:
    low, high = interval_of_share(2 / 3, 3)
    assert score(FOUND, ["cat", "dog"]).rejected == Share(count=2, n=3, low=low, high=high)


def test_each_class_has_a_row() -> None:
    found = score(FOUND, ["cat", "dog"])
    cat = ClassScore(label="cat", n=10, right=7, unknown=1, taken_for=(("dog", 2),))
    dog = ClassScore(label="dog", n=4, right=3, unknown=0, taken_for=(("cat", 1),))
    assert found.classes == (cat, dog)
    assert found.foreign == (ClassScore(label="cow", n=3, right=0, unknown=2, taken_for=(("dog", 1),)),)
    for row in (*found.classes, *found.foreign):
        assert row.right + row.unknown + sum(n for _, n in row.taken_for) == row.n


def test_the_most_confident_wrong_answers_come_first_and_unknown_last() -> None:
    wrong = score(FOUND, ["cat", "dog"]).wrong
    assert [(one.truth, one.answer) for one in wrong] == [
        ("dog", "cat"), ("cow", "dog"), ("cat", "dog"), ("cat", "dog"), ("cat", None)
    ]  # fmt: skip


def test_without_pictures_of_known_classes_there_is_no_accuracy() -> None:
    found = score([trial("cow", None)], ["cat", "dog"])
    assert found.accuracy is None
    assert found.wrong == ()


def test_a_class_called_unknown_is_a_class_where_the_model_has_it() -> None:
    assert (
        score([trial("unknown", None)], ["cat", "unknown"]).accuracy == score([trial("cat", "dog")], ["cat"]).accuracy
    )
    assert score([trial("unknown", None)], ["cat"]).wrong == ()
