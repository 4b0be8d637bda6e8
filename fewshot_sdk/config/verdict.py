"""A classifier's quality in plain words, from what cross-validation measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from fewshot_sdk.config.records import Calibration
from fewshot_sdk.intervals import interval_of_share

Grade = Literal["good", "usable", "perhaps usable", "poor", "no better than guessing", "cannot tell"]

GOOD, USABLE = 0.9, 0.75  # shares of right answers
WORTH = 0.02  # a smaller gain in accuracy is not worth the work; one class less has to gain twice as much
UNCERTAIN = 0.4  # the widest 95 % interval of accuracy that needs no remark


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A grade, and what it says: how many answers are right, what goes wrong, what would help; empty if unknown.

    With [low, high] the 95 % interval of the accuracy on held-out pictures (Wilson 1927), the grade is

        good                     low is at least 90 %
        usable                   low is at least 75 %
        no better than guessing  low is not above the share of the commonest class
        poor                     the accuracy itself is under 75 %
        perhaps usable           otherwise: the accuracy is at least 75 %, but low is under it
        cannot tell              nothing was held out
    """

    grade: Grade
    accuracy: str
    mistakes: str = ""
    advice: str = ""

    @property
    def text(self) -> str:
        """All but the grade, as one sentence without its full stop."""
        return "; ".join(filter(None, (self.accuracy, self.mistakes, self.advice)))

    def __str__(self) -> str:
        return f"{self.grade}: {self.text}"


def verdict_of(
    found: Calibration | None, n_way: int, n_support: int = 0, *, dropped: bool = False, example: str = "picture"
) -> Verdict:
    """The verdict on a classifier of n_way classes; n_support: the number of its pictures, if they were kept.

    dropped: whether classes were taken out after it was tested. example: what one example is called.
    """
    verdict = _of_pictures(found, n_way, n_support, dropped)
    accuracy, advice = (text.replace("picture", example) for text in (verdict.accuracy, verdict.advice))
    return replace(verdict, accuracy=accuracy, advice=advice)


def _of_pictures(found: Calibration | None, n_way: int, n_support: int, dropped: bool) -> Verdict:
    if found is None and dropped:
        alone, more = "classes were dropped since it was adapted", "other pictures would tell"
        return Verdict(grade="cannot tell", accuracy=alone, advice=more)
    if found is None:
        alone = "there is one picture of each class" if n_support == n_way else "no picture was held out to test it"
        more = "add a second picture of each, better five" if n_support == n_way else ""
        return Verdict(grade="cannot tell", accuracy=alone, advice=more)
    low, high = interval_of_share(found.accuracy, found.pictures)
    guessing = 1 / n_way if found.guessing is None else found.guessing
    grade = _grade(found.accuracy, low, guessing)
    share = f"{_share(found)} ({math.floor(100 * low)} to {math.ceil(100 * high)} %)"
    if grade in ("poor", "no better than guessing"):
        share += f", where guessing gives {_tenths(guessing)}"
    mixed = found.confused
    return Verdict(
        grade=grade,
        accuracy=share,
        mistakes=f"{mixed.first} and {mixed.second} are mixed up" if mixed else "",
        advice=_advice(found, n_way, high - low > UNCERTAIN),
    )


def gains(found: Calibration) -> tuple[float | None, float]:
    """What twice as many pictures would add to the accuracy, and what two classes fewer to tell apart would.

    The first continues the curve: the error falls once more by the factor by which it fell over the last doubling;
    None without a curve. The second is the share of held-out pictures on which the two are mixed up.
    """
    merged = found.confused.pictures / found.pictures if found.confused else 0.0
    if len(found.curve) < 2:
        return None, merged
    last = found.curve[-1]
    half = min(found.curve[:-1], key=lambda point: abs(point.shots / last.shots - 0.5))
    error, before = 1 - last.accuracy, 1 - half.accuracy
    return error * max(0.0, 1 - error / before) if before else 0.0, merged


def _grade(accuracy: float, low: float, guessing: float) -> Grade:
    if low <= guessing:
        return "no better than guessing"
    if low >= USABLE:
        return "good" if low >= GOOD else "usable"
    return "poor" if accuracy < USABLE else "perhaps usable"


def _share(found: Calibration) -> str:
    if found.accuracy == 1:
        return f"all {found.pictures} held-out pictures right"
    if found.accuracy >= 0.95:
        return "more than 9 of 10 right"
    return f"about {_tenths(found.accuracy)} of 10 right"


def _tenths(share: float) -> str:
    return f"{10 * share:.0f}" if share >= 0.05 else "less than 1"


def _advice(found: Calibration, n_way: int, uncertain: bool) -> str:
    more, merged = gains(found)
    pictures = max(1, round(found.pictures / n_way))
    each = f"{pictures} more picture{'' if pictures == 1 else 's'} of each"
    if merged >= WORTH and (more is None or merged > 2 * more):
        return "pictures that show how these two differ, or one class for both, would help most"
    if more is not None and more >= WORTH:
        return f"{each} would help most"
    if uncertain:
        return f"{each} would tell more surely"
    return "" if more is None else "more pictures would change little"
