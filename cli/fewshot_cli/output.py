"""The only module that prints: data on stdout, messages on stderr."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TextIO, TypeVar, cast

from fewshot_cli.streams import Messages, data, messages

T = TypeVar("T")
Count = Callable[[int, int, str], None]  # done, total, note
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tabs and line ends
PLAIN_SECONDS = 15.0  # between two progress lines where there is no terminal


def launched() -> bool:
    """Whether torchrun started this process; then the first of its ranks prints, and all of them their failures."""
    return {"TORCHELASTIC_RUN_ID", "RANK"} <= os.environ.keys()


def _silent() -> bool:
    return launched() and os.environ["RANK"] != "0"


def emit(text: str) -> None:
    """Print data. Raises SaveError if it cannot be written, BrokenPipeError if its reader has gone."""
    if _silent():
        return
    with data() as stream:
        _write(stream, text)


def emit_json(value: object) -> None:
    """Print data as JSON, valid whatever text it holds and whatever stdout's encoding; raises as `emit` does."""
    utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    text = json.dumps(value, indent=2, ensure_ascii=not utf8)
    emit(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def say(text: str, *, failure: bool = False) -> None:
    """Print a message; it is dropped if it cannot be shown."""
    if _silent() and not failure:
        return
    with messages() as stream:
        _write(stream, text)


def _write(stream: TextIO | Messages, text: str) -> None:
    """Write the text as any terminal can show it, other characters (a file name may hold any) escaped."""
    shown = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    encoding = stream.encoding or "utf-8"
    stream.write(shown.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def progress(
    items: Iterable[T], total: int, title: str, describe: Callable[[T], str], plain_seconds: float | None = None
) -> Iterator[T]:
    """The `total` items, counted as they are consumed; see `counted`."""
    with counted(title, plain_seconds) as count:
        count(0, total, "")
        for done, item in enumerate(items, 1):
            yield item
            count(done, total, describe(item))


@contextmanager
def counted(title: str, plain_seconds: float | None = None) -> Iterator[Count]:
    """A function that shows progress; its first call tells how many are done at the start.

    On a terminal this is a bar with the time left; elsewhere lines, at least `plain_seconds` apart.
    """
    pause = PLAIN_SECONDS if plain_seconds is None else plain_seconds
    if _silent():
        yield lambda *_: None
        return
    with _bar(title) if Messages(sys.stderr).isatty() else nullcontext(_lines(title, pause)) as count:
        yield count


def _lines(title: str, pause: float) -> Count:
    started = shown = time.monotonic()
    first: int | None = None

    def count(done: int, total: int, note: str) -> None:
        nonlocal shown, first
        now = time.monotonic()
        if first is None:
            first = done
        elif now - shown >= pause:
            shown = now
            left = (now - started) / (done - first) * (total - done)
            say(f"{title}: {done} of {total}, {note}, {_clock(left)} left")

    return count


@contextmanager
def _bar(title: str) -> Iterator[Count]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    task: TaskID | None = None
    with messages() as stream, Progress(*columns, console=Console(file=cast(TextIO, stream))) as bar:

        def count(done: int, total: int, note: str) -> None:
            nonlocal task
            if task is None:
                task = bar.add_task(title, total=total, completed=done, note=note)
            else:
                bar.update(task, completed=done, note=note)

        yield count


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
