"""Many pictures that are answered and sorted one after another, counted for what is said at the end."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.answers import Answered, Show
from fewshot_cli.output import clock, counted, on_one_line, say
from fewshot_sdk.errors import SHOWN, ImageError
from fewshot_sdk.storage.sorting import UNKNOWN, Misplaced, Sorter

if TYPE_CHECKING:
    from fewshot_sdk.runtime.streaming import Answer


class Batch:
    """The answers shown and the pictures sorted, counted for the messages at the end."""

    def __init__(self, total: int, sort: Sorter | None) -> None:
        self.total, self.sort, self.done, self.bad, self.misplaced = total, sort, 0, 0, 0
        self.unread: list[str] = []  # the first few
        self.unmoved: list[str] = []
        self.labels: Counter[str] = Counter()
        self._started = time.monotonic()

    def run(self, answers: Iterator[Answer[str]], shows: list[Show], *, quiet: bool) -> None:
        """Show and sort every answer. quiet: without progress."""
        with nullcontext(_uncounted) if quiet or self.total == 1 else counted("predicting") as count:
            count(0, self.total, "")
            for answer in answers:
                self._take(answer, shows)
                count(self.done, self.total, self._speed())

    def _take(self, answer: Answer[str], shows: list[Show]) -> None:
        found, error = answer.prediction, answer.error
        if found is None:
            if self.total == 1:
                raise ImageError(error)
            self.bad += 1
            self.unread += [error] if self.bad <= SHOWN else []
        else:
            label = UNKNOWN if found.label is None else found.label
            self.labels[label] += 1
            if self.sort is not None:
                try:
                    self.sort.place(Path(answer.source), label)
                except Misplaced as left:
                    error = str(left)
                    self.misplaced += 1
                    self.unmoved += [error] if self.misplaced <= SHOWN else []
        for show in shows:
            show(Answered(image=answer.source, prediction=found, error=error))
        self.done += 1

    def _speed(self) -> str:
        speed = self.done / max(time.monotonic() - self._started, 1e-3)
        return f"{speed:,.0f} pictures/s" if speed >= 100 else f"{speed:.3g} pictures/s"

    def tell(self, *, named: bool) -> None:
        """Say what was done. named: the pictures were named one by one, so only what went wrong is said."""
        if self.done < self.total:
            if self.total == 1:
                return
            say(f"stopped after {self.done:,} of {self.total:,} pictures")
        elif not named:
            seconds = time.monotonic() - self._started
            took = f"{seconds:.1f} s" if seconds < 60 else clock(seconds)
            found = ", ".join(f"{n:,} {label}" for label, n in self.labels.most_common(12))
            rest = len(self.labels) - 12
            more = f" and {rest} more labels" if rest > 0 else ""
            say(f"{pictures(self.done)} in {took} ({self._speed()}): {on_one_line(found) or 'none read'}{more}")
        if self.sort is not None:
            tell_of_sorting(self.sort)
        for count, first, what in (
            (self.bad, self.unread, "could not be read"),
            (self.misplaced, self.unmoved, "stayed where they are"),
        ):
            if count:
                say(reasons(f"{pictures(count)} of {self.done:,} {what}", first, count))


def tell_of_sorting(sort: Sorter) -> None:
    """Say how many pictures were copied, or moved and how to put them back."""
    if sort.journal is None:
        say(f"copied {pictures(sort.done)} into {sort.folder}")
    elif sort.done:
        undo = f"fewshot predict --undo {shlex.quote(str(sort.journal.path))}"
        say(f"moved {pictures(sort.done)} into {sort.folder}; to put them back: {undo}")


def pictures(n: int, example: str = "picture") -> str:
    """So many pictures, or other examples, in words."""
    return f"{n:,} {example}{'' if n == 1 else 's'}"


def reasons(what: str, first: Sequence[str], count: int) -> str:
    """What went wrong, and the first few of `count` reasons, one on each line."""
    shown = first[:SHOWN]
    more = f"\n  and {count - len(shown):,} more" if count > len(shown) else ""
    return f"{what}:\n  " + "\n  ".join(map(on_one_line, shown)) + more


def _uncounted(done: int, total: int, note: str, *, due: bool = False) -> None:
    """A count that shows nothing."""
