"""The only place that prints: data on stdout, everything for people on stderr."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar, cast

from fewshot_cli.streams import Messages, data, messages

T = TypeVar("T")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tabs and line ends
PLAIN_SECONDS = 15.0  # between two progress lines where there is no terminal


def emit(text: str) -> None:
    """A line of data, or a few. Raises SaveError if they cannot be written, BrokenPipeError if nobody reads on."""
    with data() as stream:
        _write(stream, text)


def emit_json(value: object) -> None:
    """Data as JSON."""
    emit(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """A line for the person who watches, or a few; dropped where they cannot be shown."""
    with messages() as stream:
        _write(stream, text)


def _write(stream: TextIO | Messages, text: str) -> None:
    """The text as any terminal can show it: what a file's name may hold beyond that, escaped."""
    shown = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    encoding = stream.encoding or "utf-8"
    stream.write(shown.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def progress(
    items: Iterable[T],
    total: int,
    title: str,
    describe: Callable[[T], str],
    done: int = 0,
    plain_seconds: float | None = None,
) -> Iterator[T]:
    """The items, with a bar and the time left on a terminal, now and then a line elsewhere.

    done: how many of the `total` were there before; plain_seconds: between two such lines.
    """
    pause = PLAIN_SECONDS if plain_seconds is None else plain_seconds
    if Messages(sys.stderr).isatty():
        yield from _bar(items, total, title, describe, done)
        return
    started = shown = time.monotonic()
    for new, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown >= pause:
            shown = now
            left = (now - started) / new * (total - done - new)
            say(f"{title}: {done + new} of {total}, {describe(item)}, {_clock(left)} left")


def _bar(items: Iterable[T], total: int, title: str, describe: Callable[[T], str], done: int) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with messages() as stream, Progress(*columns, console=Console(file=cast(TextIO, stream))) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        for item in items:
            yield item
            bar.update(task, advance=1, note=describe(item))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
