"""The support-set doctor: what is wrong with a set of pictures, and what to do about it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewshot_sdk.config.recipe import Preprocessing
from fewshot_sdk.errors import SHOWN, listed
from fewshot_sdk.images.support import Reading, ReadPicture, SupportSet
from fewshot_sdk.images.thumbnails import is_blank, is_grey, likenesses

LOOK = Preprocessing(height=64, width=64, channels=3, resize="bilinear")  # if there is no network to read for

# Two pictures count as the same if their 32 x 32 thumbnails correlate at least this much. Among 2,000 Omniglot drawings
# (100 characters by 20 drawers) and 1,600 mini-ImageNet photographs, 3 million pairs, none reaches 0.95. The same
# picture saved as JPEG of quality 50 or at two thirds of its size gives 0.997 or more, 15 % brighter 0.975 or more.
# A 64-bit difference hash, in contrast, is equal for some different drawings, which are mostly paper.
SAME = 0.98
TOO_FEW = 3  # with fewer pictures of a class, leaving one out says almost nothing
UNEVEN = 3  # times as many pictures of the largest class as of the smallest
ODD_SHARE = 0.1  # of all pictures; at least one picture may be odd
# Two classes look the same if nearly all of their pictures have their nearest picture in the other class. Of 300 random
# tasks of 5 shots and 2, 3, 4, 5 or 8 ways this flags at most 2 % (mini-ImageNet) or 0.3 % (Omniglot); of 3 shots, 6 %.
ALIKE_SHARE, ALIKE_SHOTS = 0.9, 4
UNKNOWN, MISSING = "unknown", ("nan", "na", "n/a", "null", "none")  # names of classes that tables confuse


Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem with a support set. An `error` makes the set unusable for adaptation; a `warning` does not.

    code: one of unreadable, blank, blank-class, duplicate, contradiction, correction, near-duplicate, few-shots,
    imbalance, odd-grey, odd-colour, alike-classes, odd-name, overlap, near-overlap, and for rows of numbers scale,
    constant; message: which files, and what to do.
    """

    severity: Severity
    code: str
    message: str


def examine(support: Reading, query: Reading | None = None) -> list[Finding]:
    """The problems of a support set, errors first.

    query: pictures set aside for testing, whose labels do not matter; none may be in the support set.
    """
    labels = [picture.label for picture in support.pictures]
    found = [*unreadable(support), *_blank(support.pictures), *_copies(support.pictures)]
    found += [
        *odd_names(labels),
        *_guessed_names(support.pictures),
        *counts(labels),
        *_odd_colours(support.pictures),
        *_alike_classes(support.pictures),
    ]
    if query is not None:
        found += [*unreadable(query), *_overlap(support.pictures, query.pictures)]
    return sorted(found, key=lambda finding: finding.severity)  # "error" < "warning"; a stable sort


def examine_more(more: Reading, kept: SupportSet) -> list[Finding]:
    """The problems of pictures to be added to those that a classifier keeps, errors first.

    more: read with the classifier's settings, because a kept picture is recognized by its pixels. One that is kept
    under another label is corrected: a warning tells that it moves.
    """
    found = [*unreadable(more), *_blank(more.pictures), *_copies(more.pictures), *_known(more.pictures, kept)]
    found += new_odd_names(kept.labels, [*kept.labels, *(picture.label for picture in more.pictures)])
    return sorted(found, key=lambda finding: finding.severity)


def _known(pictures: Sequence[ReadPicture], kept: SupportSet) -> Iterator[Finding]:
    labels = {image.tobytes(): kept.labels[t] for image, t in zip(kept.images, kept.targets, strict=True)}
    for picture in pictures:
        label = labels.get(picture.pixels.tobytes())
        if label == picture.label:
            yield _warning("duplicate", f"{picture.name} is already among the pictures of {label}; remove it")
        elif label is not None:
            yield _warning(
                "correction",
                f"{picture.name} is already among the pictures of {label} and moves to {picture.label}; remove it "
                f"if {label} was right",
            )


def unreadable(reading: Reading, severity: Severity = "error") -> Iterator[Finding]:
    """The files that could not be read."""
    for said in reading.unreadable.values():
        yield Finding(severity=severity, code="unreadable", message=said)


def _blank(pictures: Sequence[ReadPicture]) -> Iterator[Finding]:
    """Pictures of a single colour; a class of nothing else is an error, for it can be told by its colour alone."""
    shown = {picture.label for picture in pictures if not is_blank(picture.thumb)}
    for label, n in Counter(picture.label for picture in pictures if picture.label not in shown).items():
        message = (
            f"all {n} pictures of the class {label} are a single colour each; take them again, or remove the class"
        )
        yield Finding(severity="error", code="blank-class", message=message)
    for picture in pictures:
        if picture.label in shown and is_blank(picture.thumb):
            yield _warning("blank", f"{picture.name} is a single colour; take it again or remove it")


def _copies(pictures: Sequence[ReadPicture]) -> Iterator[Finding]:
    """Exact copies by their hash, then near copies among the distinct files.

    One file under two labels is an error: one of the labels is wrong, and so is what is learnt from it. Near
    copies may be intended, such as a part before and after damage.
    """
    by_hash = defaultdict(list)
    for picture in pictures:
        by_hash[picture.sha256].append(picture)
    for same in by_hash.values():
        if len({picture.label for picture in same}) > 1:
            message = f"{_named(same)} are the same file under different labels; keep the right one and remove the rest"
            yield Finding(severity="error", code="contradiction", message=message)
        elif len(same) > 1:
            yield _warning("duplicate", f"{_named(same)} are the same file; keep one, as copies teach nothing new")
    unique = [same[0] for same in by_hash.values()]
    for group in _groups(unique):
        across = len({picture.label for picture in group}) > 1
        advice = (
            "check their labels, and keep one unless the small difference is what sets the classes apart"
            if across
            else "keep the best one and take another picture"
        )
        sizes = " x ".join(map(str, group[0].size)), " x ".join(map(str, group[1].size))
        scaled = f" (the first is {sizes[0]} pixels, the second {sizes[1]})" if sizes[0] != sizes[1] else ""
        where = "nearly the same picture under different labels" if across else "nearly the same picture"
        yield _warning("near-duplicate", f"{_named(group)} are {where}{scaled}; {advice}")


def _groups(pictures: Sequence[ReadPicture]) -> list[list[ReadPicture]]:
    """The pictures that are nearly the same as others, in groups connected by similarity."""
    group = list(range(len(pictures)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for left, right in _pairs(pictures, pictures):
        if left < right:
            group[root(right)] = root(left)
    members = defaultdict(list)
    for i, picture in enumerate(pictures):
        members[root(i)].append(picture)
    return [found for found in members.values() if len(found) > 1]


def _pairs(these: Sequence[ReadPicture], those: Sequence[ReadPicture]) -> Iterator[tuple[int, int]]:
    if not these or not those:
        return
    first = 0
    for block in likenesses([p.thumb for p in these], [p.thumb for p in those]):
        for left, right in np.argwhere(block >= SAME).tolist():
            yield first + left, right
        first += len(block)


def odd_names(labels: Sequence[str]) -> Iterator[Finding]:
    """Names of classes that invite confusion, given the label of each example."""
    by_name = defaultdict(list)
    for label in dict.fromkeys(labels):
        by_name[" ".join(label.casefold().split())].append(label)
    for name, alike in by_name.items():
        if len(alike) > 1:
            told = " and ".join(map(repr, alike))
            yield _warning(
                "odd-name", f"the classes {told} differ only in capitals or blanks; merge them if they are one"
            )
        elif name == UNKNOWN:
            yield _warning(
                "odd-name",
                f"the class {alike[0]!r} is named like the answer for pictures of no known class; rename it, such as "
                "to 'other'",
            )
        elif name in MISSING or re.fullmatch("0[0-9]+", name):
            yield _warning(
                "odd-name",
                f"spreadsheets and pandas read the class name {alike[0]!r} as a number or as nothing; rename it, such "
                f"as to 'class {alike[0]}'",
            )


def _guessed_names(pictures: Sequence[ReadPicture]) -> Iterator[Finding]:
    """Names of classes whose letters a zip does not tell."""
    guessed = [picture.label for picture in pictures if picture.guessed and not picture.label.isascii()]
    for label in dict.fromkeys(guessed):
        yield _warning(
            "odd-name",
            f"the zip does not say how the class name {label!r} is written; if that is not its name, unpack the zip "
            "with the program that made it, and name the folder",
        )


def new_odd_names(before: Sequence[str], after: Sequence[str]) -> list[Finding]:
    """What `odd_names` finds in a classifier's labels after a change and did not before."""
    known = [*odd_names(before)]
    return [finding for finding in odd_names(after) if finding not in known]


def counts(labels: Sequence[str], example: str = "picture") -> Iterator[Finding]:
    """What is wrong with the numbers of examples of each class, given the label of each."""
    found = Counter(labels)
    if few := [f"{label} ({n})" for label, n in found.items() if n < TOO_FEW]:
        yield _warning(
            "few-shots",
            f"too few {example}s to estimate the accuracy: {listed(few)}; add some until each class has at least "
            f"{TOO_FEW}, or set others aside to test the classifier on",
        )
    if found:
        most, least = max(found, key=found.__getitem__), min(found, key=found.__getitem__)
        high, low = found[most], found[least]
        if high > UNEVEN * low:
            yield _warning(
                "imbalance",
                f"the class {most} has {high} {example}s and {least} has {low}, which favours {most}; "
                f"add {example}s of {least} or remove some of {most}",
            )


def _odd_colours(pictures: Sequence[ReadPicture]) -> Iterator[Finding]:
    seen = [picture for picture in pictures if not is_blank(picture.thumb)]
    grey = [picture for picture in seen if is_grey(picture.thumb)]
    colour = [picture for picture in seen if not is_grey(picture.thumb)]
    allowed = max(1, int(ODD_SHARE * len(seen)))
    if 0 < len(grey) <= allowed < len(colour):
        for picture in grey:
            yield _warning("odd-grey", f"{picture.name} is grey and the others are in colour; take it in colour")
    if 0 < len(colour) <= allowed < len(grey):
        for picture in colour:
            yield _warning("odd-colour", f"{picture.name} is in colour and the others are grey; save it in grey, too")


def _alike_classes(pictures: Sequence[ReadPicture]) -> Iterator[Finding]:
    counts = Counter(picture.label for picture in pictures)
    names = list(counts)
    labels = np.asarray([names.index(picture.label) for picture in pictures])
    nearest = np.empty(len(pictures), np.int64)  # the class of each picture's nearest other
    first = 0
    thumbs = [picture.thumb for picture in pictures]
    for block in likenesses(thumbs, thumbs) if thumbs else ():
        rows = np.arange(len(block))
        block[rows, first + rows] = -2
        nearest[first + rows] = labels[block.argmax(1)]
        first += len(block)
    crossing = Counter((int(min(pair)), int(max(pair))) for pair in zip(labels, nearest, strict=True))
    for (one, other), n in crossing.items():
        total = counts[names[one]] + counts[names[other]]
        enough = min(counts[names[one]], counts[names[other]]) >= ALIKE_SHOTS
        if one != other and enough and n >= ALIKE_SHARE * total:
            yield _warning(
                "alike-classes",
                f"the classes {names[one]} and {names[other]} look the same: {n} of their {total} pictures are most "
                "like one of the other class; check that neither is a copy, or merge them into one class",
            )


def _overlap(support: Sequence[ReadPicture], query: Sequence[ReadPicture]) -> Iterator[Finding]:
    """Pictures in both sets: a copy makes any accuracy on the query set worthless, an error; a near copy may."""
    known = {picture.sha256: picture for picture in support}
    fresh = []
    for picture in query:
        if picture.sha256 in known:
            message = f"{picture.name} is also in the support set, as {known[picture.sha256].name}; remove one of them"
            yield Finding(severity="error", code="overlap", message=message)
        else:
            fresh.append(picture)
    told = set()
    for left, right in _pairs(fresh, support):
        if left not in told:
            told.add(left)
            yield _warning(
                "near-overlap",
                f"{fresh[left].name} is nearly the same as {support[right].name} in the support set; remove one",
            )


def _warning(code: str, message: str) -> Finding:
    return Finding(severity="warning", code=code, message=message)


def _named(pictures: Sequence[ReadPicture]) -> str:
    names = [picture.name for picture in pictures]
    if len(names) > SHOWN:
        return listed(names)
    return ", ".join(names[:-1]) + f" and {names[-1]}"
