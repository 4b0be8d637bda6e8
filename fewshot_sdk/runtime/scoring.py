"""How good a classifier is on pictures whose classes are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_sdk.intervals import interval_of_share


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An answer for a picture of the class `truth`; answer: None for unknown; nearest: the most probable label."""

    name: str
    truth: str
    answer: str | None
    nearest: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """`count` of `n`, with the ends of the 95 % interval of the share, from 0 to 1 (Wilson 1927)."""

    count: int
    n: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How many of a class's n pictures were called right or unknown, and what the others were taken for, most first."""

    label: str
    n: int
    right: int
    unknown: int
    taken_for: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Score:
    """What came out of a test.

    accuracy: of the pictures of classes that the model knows; unknown is wrong for them. None if there are none.
    rejected: of the pictures of other classes, those that were called unknown, as they should be.
    classes, foreign: the pictures' classes, those that the model knows and the others. wrong: the wrong answers, the
    most confident first, unknown last.
    """

    accuracy: Share | None
    unknown: int
    rejected: Share | None
    classes: tuple[ClassScore, ...]
    foreign: tuple[ClassScore, ...]
    wrong: tuple[Trial, ...]


def score(found: Sequence[Trial], labels: Sequence[str]) -> Score:
    """The score of a model with these labels. Pure."""
    known = set(labels)
    own = [one for one in found if one.truth in known]
    foreign = [one for one in found if one.truth not in known]
    wrong = [one for one in found if not is_right(one, known)]
    return Score(
        accuracy=share(sum(one.answer == one.truth for one in own), len(own)),
        unknown=sum(one.answer is None for one in own),
        rejected=share(sum(one.answer is None for one in foreign), len(foreign)),
        classes=_by_class(own),
        foreign=_by_class(foreign),
        wrong=tuple(sorted(wrong, key=lambda one: (one.answer is None, -one.probability))),
    )


def is_right(one: Trial, known: set[str]) -> bool:
    """Whether the answer is the class, or unknown for a class that is none of the `known` ones."""
    return one.answer == (one.truth if one.truth in known else None)


def share(count: int, n: int) -> Share | None:
    """`count` of `n` with its interval; None of nothing."""
    if n == 0:
        return None
    low, high = interval_of_share(count / n, n)
    return Share(count=count, n=n, low=low, high=high)


def _by_class(found: Sequence[Trial]) -> tuple[ClassScore, ...]:
    answers: dict[str, Counter[str | None]] = {}
    for one in found:
        answers.setdefault(one.truth, Counter())[one.answer] += 1
    return tuple(
        ClassScore(
            label=label,
            n=counts.total(),
            right=counts[label],
            unknown=counts[None],
            taken_for=tuple((str(to), n) for to, n in counts.most_common() if to not in (label, None)),
        )
        for label, counts in sorted(answers.items())
    )
