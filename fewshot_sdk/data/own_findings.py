"""The doctor's findings on a data set of any size: what is wrong with its files, in one summary and in one list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from fewshot_sdk.errors import listed
from fewshot_sdk.images.doctor import Finding
from fewshot_sdk.images.sources import SourceFile

Copies: TypeAlias = list[tuple[str, str]]  # the name and the class of each file with the same contents


@dataclass(frozen=True, kw_only=True)
class Complaints:
    """What is wrong with the files of a data set, by their names.

    files: how many there are. unreadable: name -> what is wrong. blank: pictures of a single colour. repeated: copies
    of an earlier file of the same class. copies: files with the same contents in several classes.
    Near copies are not looked for: every picture would have to be compared with every other.
    """

    files: int
    unreadable: dict[str, str]
    blank: list[str]
    repeated: list[str]
    copies: list[Copies]

    @classmethod
    def of(cls, found: dict[str, object]) -> Complaints:
        """What `as_json` gave. Raises TypeError if it is something else."""
        return cls(**found)  # type: ignore[arg-type]

    def as_json(self) -> dict[str, object]:
        """The complaints as JSON can hold them."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Every complaint, one a line."""
        for said in self.unreadable.values():
            yield f"unreadable: {said}"
        for same in self.copies:
            yield "in several classes: " + ", ".join(f"{name} ({label})" for name, label in same)
        yield from (f"single colour: {name}" for name in self.blank)
        yield from (f"a copy within its class: {name}" for name in self.repeated)

    def summary(self, parts: Mapping[str, str], listing: Path) -> tuple[Finding, ...]:
        """A warning for each kind of complaint, with numbers and a few names.

        parts: the part of each class that is used. listing: the file with every complaint, which each warning names.
        """
        told = []
        if self.unreadable:
            names = listed(list(self.unreadable))
            told.append(("unreadable", f"{self._of(len(self.unreadable))} could not be read, left out: {names}"))
        used = [[(name, label) for name, label in same if label in parts] for same in self.copies]
        across = [same for same in used if len({parts[label] for _, label in same}) > 1]
        if across:
            pairs = listed([" = ".join(name for name, _ in same) for same in across])
            told.append(("overlap", f"{self._of(len(across))} are in classes of different parts: {pairs}"))
        if within := [same for same in used if same not in across and len({label for _, label in same}) > 1]:
            pairs = listed([" = ".join(name for name, _ in same) for same in within])
            told.append(("contradiction", f"{self._of(len(within))} are in more than one class: {pairs}"))
        if self.blank:
            told.append(("blank", f"{self._of(len(self.blank))} are a single colour: {listed(self.blank)}"))
        if self.repeated:
            told.append(("duplicate", f"{self._of(len(self.repeated))} are copies of others: {listed(self.repeated)}"))
        return tuple(Finding(severity="warning", code=code, message=f"{said}; see {listing}") for code, said in told)

    def _of(self, n: int) -> str:
        return f"{n:,} of {self.files:,} files"


class Examiner:
    """Hears of each file of a data set in turn; keeps a hash for each, no pixels."""

    def __init__(self) -> None:
        self._files, self._unreadable = 0, dict[str, str]()
        self._blank, self._repeated = list[str](), list[str]()
        self._first, self._copies = dict[bytes, tuple[str, str]](), dict[bytes, Copies]()

    def hear(self, file: SourceFile, sha256: bytes, blank: bool, wrong: str) -> None:
        """Take note of a file. wrong: why it cannot be read, or empty."""
        self._files += 1
        if wrong:
            self._unreadable[file.name] = wrong
            return
        if blank:
            self._blank.append(file.name)
        name, label = self._first.setdefault(sha256, (file.name, file.label))
        if name == file.name:
            return
        if label != file.label:
            self._copies.setdefault(sha256, [(name, label)]).append((file.name, file.label))
        else:
            self._repeated.append(file.name)

    @property
    def complaints(self) -> Complaints:
        """What was heard so far."""
        return Complaints(
            files=self._files,
            unreadable=self._unreadable,
            blank=self._blank,
            repeated=self._repeated,
            copies=list(self._copies.values()),
        )
