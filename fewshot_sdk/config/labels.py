"""What the name of a class may be, wherever it comes from: folders, tables, edits, files of strangers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated
from unicodedata import category

from pydantic import AfterValidator

from fewshot_sdk.config.settings import Listed

LONGEST = 200  # characters
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they make a text look like another


def wrong_label(label: str) -> str | None:
    """What is wrong with the name of a class, as in `expected ...`; None if nothing is."""
    if not label.strip():
        return "a name that is not empty"
    if len(label) > LONGEST:
        return f"at most {LONGEST} characters"
    if any(category(sign) in ("Cc", "Cs") for sign in label):
        return "a name without control characters and of valid UTF-8"
    if _REORDERING.intersection(label):
        return "a name without invisible characters that change the order of its letters"
    return None


def _check_labels(labels: Sequence[str]) -> Sequence[str]:
    if not labels:
        raise ValueError("expected the name of each class, found none")
    for label in labels:
        if wrong := wrong_label(label):
            raise ValueError(f"expected {wrong}: {label[:60]!r}")
    name, times = Counter(labels).most_common(1)[0]
    if times > 1:
        raise ValueError(f"expected different names, but {name!r} occurs {times} times")
    return labels


Labels = Annotated[Listed[str], AfterValidator(_check_labels)]
