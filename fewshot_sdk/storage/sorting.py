"""Pictures sorted into a folder for each label, by copying or moving, and put back again."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fewshot_sdk.errors import SaveError
from fewshot_sdk.storage.drafts import draft_beside, rename_new
from fewshot_sdk.storage.undoing import Journal

UNKNOWN = "unknown"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff/\\:*?"<>|]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?=\.|$)", re.IGNORECASE)
_LONGEST_LABEL, _LONGEST = 120, 255  # bytes; file systems allow 255
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class Misplaced(Exception):
    """A picture that was left where it is, and why."""


def folder_names(labels: Sequence[str]) -> dict[str, str]:
    """A folder name for each label and for `unknown`, valid on any system; all different, whatever their case.

    A class that is called unknown shares the folder of the pictures that seem to show no class.
    """
    taken = {UNKNOWN}
    found = {UNKNOWN: UNKNOWN}
    for label in labels:
        if label in found:
            continue
        plain = _plain(label)
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain} ({number})"
        taken.add(name.casefold())
        found[label] = name
    return found


def _plain(label: str) -> str:
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", label))
    name = re.sub(r"^[.\s]+|[.\s]+$", "_", name) or "_"  # hidden, or lost on Windows
    name = _DEVICE.sub(r"\1_", name)
    if len(name.encode()) > _LONGEST_LABEL:
        digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{_cut(name, _LONGEST_LABEL - 9)}-{digest}"
    return name


def _cut(name: str, n_bytes: int) -> str:
    return os.fsencode(name)[:n_bytes].decode(errors="ignore").rstrip(". ")


class Sorter:
    """Puts files into the folders of their labels below `folder`; made by `sorter`.

    journal: where a move is written down before it happens; None: files are copied.
    """

    def __init__(self, folder: Path, labels: Sequence[str], draft: Path, journal: Journal | None) -> None:
        self.folder, self.journal, self.done = folder, journal, 0
        self._draft, self._names = draft, folder_names(labels)
        self._numbers: dict[tuple[Path, str], int] = {}

    def place(self, source: Path, label: str) -> Path | None:
        """Where the file is now, below the folder of the label; None if it was there already.

        If the name is taken it gets ` (2)`, ` (3)`, ... Raises Misplaced if it was left where it is, SaveError if the
        disk is full or read-only, so that there is no point in trying others.
        """
        try:
            return self._place(source, self.folder / self._names[label])
        except FileNotFoundError:
            raise Misplaced(f"{source}: it has vanished meanwhile") from None
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            if error.errno in _FATAL:
                if error.errno == errno.EROFS and error.filename == str(source):
                    raise SaveError(f"{source}: {reason}, so it cannot be moved; copy it (--copy-to)") from None
                raise SaveError(f"{self.folder}: {reason}; make room or name another folder") from None
            where = "" if error.filename in (None, str(source)) else f" ({error.filename})"
            raise Misplaced(f"{source}: {reason}{where}; it was left where it is") from None

    def _place(self, source: Path, folder: Path) -> Path | None:
        status = source.stat() if self.journal is None else source.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise Misplaced(f"{source} is a link; it was left where it is, but --copy-to copies what it leads to")
        if not stat.S_ISREG(status.st_mode):
            raise Misplaced(f"{source} is not a file; it was left where it is")
        folder.mkdir(parents=True, exist_ok=True)
        if source.parent.samefile(folder):
            return None
        if self.journal is None:
            copied = self._copied(source)
            return self._named(copied, source.name, folder)
        if status.st_dev == folder.stat().st_dev:
            return self._named(source, source.name, folder, noted=source)
        copied = self._copied(source)
        target = self._named(copied, source.name, folder, noted=source)
        if _state(source.lstat()) != _state(status):
            raise Misplaced(f"{source} was changed while it was moved; it was left there, and {target} is its copy")
        try:
            source.unlink()
        except OSError:
            if os.path.lexists(source):
                target.unlink()  # lest it is there twice
                self.done -= 1
                raise
        return target

    def _named(self, file: Path, name: str, folder: Path, noted: Path | None = None) -> Path:
        """Rename the file to the first free name. noted: written down, as the one to undo this to."""
        for target in self._free(folder, name):
            if noted is not None and self.journal is not None:
                self.journal.note(noted, target, file.stat())
            try:
                rename_new(file, target)
            except FileExistsError:  # another process was faster
                continue
            self.done += 1
            return target
        raise AssertionError("there is always another number")

    def _free(self, folder: Path, name: str) -> Iterator[Path]:
        stem, suffix, key = Path(name).stem, Path(name).suffix, (folder, name)
        while True:
            number = self._numbers[key] = self._numbers.get(key, 0) + 1
            ending = (f" ({number})" if number > 1 else "") + suffix
            target = folder / (_fitting(stem, _LONGEST - len(os.fsencode(ending))) + ending)
            if not os.path.lexists(target):
                yield target

    def _copied(self, source: Path) -> Path:
        """A copy in the draft, on the disk and compared with what was read."""
        copy = self._draft / "picture"
        copy.unlink(missing_ok=True)
        read = hashlib.sha256()
        with source.open("rb") as file, copy.open("xb") as out:
            while part := file.read(2**20):
                read.update(part)
                out.write(part)
            out.flush()
            os.fsync(out.fileno())
        with copy.open("rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != read.digest():
                raise OSError(errno.EIO, "the copy differs from what was read")
        shutil.copystat(source, copy)
        return copy


@contextmanager
def sorter(folder: Path, labels: Sequence[str], *, move: bool) -> Iterator[Sorter]:
    """A sorter into `folder`, which is made. move: the undo file, in the folder, is there before the first move.

    Folders that were made and got no file are removed. Raises SaveError if the folder cannot be written to.
    """
    with ExitStack() as stack:
        stack.callback(_remove_empty, [above for above in (folder, *folder.parents) if not above.exists()])
        try:
            draft = stack.enter_context(draft_beside(folder / UNKNOWN))
            journal = stack.enter_context(Journal(folder)) if move else None
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise SaveError(f"cannot write into {folder}: {reason}; name another folder") from None
        yield Sorter(folder, labels, draft, journal)


def _remove_empty(made: list[Path]) -> None:
    """Remove these folders, the first of which is inside the others, as far as nothing is in them but empty folders."""
    with suppress(OSError):
        for inside in made[0].iterdir() if made else ():
            with suppress(OSError):
                inside.rmdir()
        for folder in made:
            folder.rmdir()


def _fitting(stem: str, n_bytes: int) -> str:
    return stem if len(os.fsencode(stem)) <= n_bytes else _cut(stem, n_bytes)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
