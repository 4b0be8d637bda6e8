"""The undo file: what is moved is written down before, and can be put back."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType

from fewshot_sdk.errors import BundleError
from fewshot_sdk.storage.drafts import draft_beside, rename_new, sync_folder
from fewshot_sdk.storage.files import read_bounded

FORMAT = "fewshot-sdk undo 1"
MAX_BYTES = 2**30


@dataclass(frozen=True, kw_only=True)
class Move:
    """A line of the undo file: `source` was moved, or was about to be, to `target`, relative to the undo file's folder.

    state: inode, size and time of the moved file, by which it is recognized.
    """

    source: Path
    target: PurePath
    state: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Undone:
    """How many files are back, and why others are not."""

    back: int
    left: tuple[str, ...]


class Journal:
    """A new undo file in `folder`, each line on the disk before the move that it is about.

    Closed without a line, it is removed. Raises OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._noted = folder, False
        name, number = f"undo-{time.strftime('%Y%m%d-%H%M%S')}", 1
        while True:
            self.path = folder / (f"{name}-{number}.jsonl" if number > 1 else f"{name}.jsonl")
            try:
                self._file = self.path.open("x", encoding="ascii", newline="\n")
                break
            except FileExistsError:
                number += 1
        self._write({"format": FORMAT})
        sync_folder(folder)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._noted:
            self.path.unlink(missing_ok=True)

    def note(self, source: Path, target: Path, status: os.stat_result) -> None:
        """Write down that the file with this status is about to be moved from `source` to `target`."""
        self._noted = True
        self._write(
            {
                "from": str(source.absolute()),
                "to": target.relative_to(self._folder).as_posix(),
                "inode": status.st_ino,
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
            }
        )

    def _write(self, line: dict[str, str | int]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def undo(file: Path) -> Undone:
    """Put back what an undo file says was moved, the last first; nothing is overwritten.

    What has vanished or was changed meanwhile stays where it is. If everything is back, the undo file and the folders
    that it leaves empty are removed. Raises BundleError if it is not an undo file.
    """
    back = 0
    moves = list(_read(file))
    with suppress(OSError), draft_beside(file):  # removes what a killed process left
        pass
    tried: dict[Path, str] = {}
    for move in reversed(moves):
        target = file.parent / move.target
        if tried.get(move.source) == "":
            continue  # an earlier name that another process took before
        tried[move.source] = reason = _put_back(move, target)
        back += reason == ""
    left = [reason for reason in tried.values() if reason not in ("", _NEVER_MOVED)]
    for folder in {file.parent / move.target.parent for move in moves}:
        with suppress(OSError):  # not empty, or gone
            folder.rmdir()
    if not left:
        file.unlink()
        with suppress(OSError):
            file.parent.rmdir()
    return Undone(back=back, left=tuple(left))


_NEVER_MOVED = "never moved"


def _put_back(move: Move, target: Path) -> str:
    """Empty once the file is back; otherwise why it is not."""
    source = move.source
    there = _state(target)
    if os.path.lexists(source):
        if there != move.state:
            return _NEVER_MOVED if _state(source) == move.state or there is None else f"{source}: something is there"
        if not _copied(source, target):
            return f"{source}: something is there already, so {target} stays where it is"
    elif there is None:
        return f"{target}: it is gone, so {source} cannot be put back"
    elif there != move.state:
        return f"{target} was changed since it was moved; it stays where it is, and came from {source}"
    try:
        if os.path.lexists(source):  # killed between the copy to another disk and the removal
            target.unlink()
            return ""
        source.parent.mkdir(parents=True, exist_ok=True)
        _rename(target, source)
    except OSError as error:
        return f"{target}: {(error.strerror or type(error).__name__).lower()}; it could not be put back as {source}"
    return ""


def _copied(one: Path, other: Path) -> bool:
    """Whether they are two files of the same content, not two paths of one file."""
    try:
        same = (one.parent.resolve() / one.name) == (other.parent.resolve() / other.name)
        linked = one.samefile(other) and one.stat().st_nlink == 1
        return not (same or linked or one.is_symlink()) and one.is_file() and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _rename(file: Path, to: Path) -> None:
    try:
        rename_new(file, to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with draft_beside(to) as draft:
            shutil.copy2(file, draft / "picture")
            with (draft / "picture").open("rb") as copied:
                os.fsync(copied.fileno())
            rename_new(draft / "picture", to)
        file.unlink()


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(file: Path) -> Iterator[Move]:
    """The lines; a last one without an end was cut off before its move began."""
    data = read_bounded(file, MAX_BYTES, BundleError, "expected an undo file of `fewshot predict --move-to`")
    lines = data.decode("ascii", "replace").split("\n")[:-1]
    try:
        if not lines or json.loads(lines[0])["format"] != FORMAT:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(f"{file} is not an undo file of `fewshot predict --move-to`") from None
    states: dict[Path, tuple[int, int, int]] = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            found = json.loads(line)
            source, target = Path(str(found["from"])), PurePath(str(found["to"]))
            state = int(found["inode"]), int(found["size"]), int(found["mtime_ns"])
            os.fsencode(source), os.fsencode(target)
        except (ValueError, OverflowError, KeyError, TypeError, RecursionError):
            raise BundleError(f"{file}, line {number}: it was changed or damaged; nothing was put back") from None
        inside = len(target.parts) == 2 and not target.is_absolute() and ".." not in target.parts
        # several files of one path would be guesses at what is there, to be put anywhere
        guessed = states.setdefault(source, state) != state
        if not (source.is_absolute() and inside) or guessed or "\0" in f"{source}{target}":
            raise BundleError(f"{file}, line {number}: it leads out of its folder; do not trust this file")
        yield Move(source=source, target=target, state=state)
