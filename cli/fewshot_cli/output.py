"""The only module that prints: data on stdout, messages on stderr."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar, cast

from fewshot_cli.streams import Messages, data, forget_stdout, messages
from fewshot_sdk.errors import SaveError
from fewshot_sdk.storage.rendering import decoded

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")
# All but tabs and line ends: control characters, lone surrogates, and what ends or reorders a line without being seen.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")
_OTHER = re.compile(r"[^\x00-\x7f]")
PLAIN_SECONDS = 15.0  # between two progress lines where there is no terminal
STEADY = 600.0  # seconds over which the time left is estimated: the accuracy is measured now and then
NARROW = 45  # columns, for which there is a count without a bar


class Count(Protocol):
    """Shows that `done` of `total` are done, with a note. due: also where lines are apart, this one is printed."""

    def __call__(self, done: int, total: int, note: str, *, due: bool = False) -> None: ...  # noqa: D102


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


def emit_json(value: object, *, one_line: bool = False) -> None:
    """Print data as JSON, valid whatever text it holds and whatever stdout's encoding; raises as `emit` does."""
    emit(_json(value, None if one_line else 2))


@contextmanager
def emit_json_list() -> Iterator[Callable[[object], None]]:
    """A function that prints one more item of a list as JSON; its end is missing if an error ends the work."""
    held = "["

    def item(value: object) -> None:
        nonlocal held
        emit(held if held == "[" else f"{held},")
        held = textwrap.indent(_json(value, 2), "  ")

    yield item
    emit("[]" if held == "[" else f"{held}\n]")


def _json(value: object, indent: int | None) -> str:
    try:
        text = decoded(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))
    except ValueError:  # JSON has no such numbers
        text = decoded(json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False))
    if not _takes_utf8():
        text = _OTHER.sub(lambda found: json.dumps(found[0])[1:-1], text)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _finite(value: object) -> object:
    """The same with None for each number that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def on_one_line(text: str) -> str:
    """The text with its line ends and tabs, which a name may hold, escaped as other control characters will be."""
    return text.replace("\n", "\\n").replace("\t", "\\t")


def emit_toml(text: str) -> None:
    """Print data in TOML, valid whatever stdout's encoding: else other characters, which strings hold, are escaped."""
    emit((text if _takes_utf8() else _OTHER.sub(lambda found: f"\\U{ord(found[0]):08x}", text)).rstrip("\n"))


def _takes_utf8() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def emit_line(value: object) -> bool:
    """Print data as one line of JSON; False if it cannot be written, and then nothing more is tried."""
    if sys.stdout is None:
        return False
    try:
        emit(json.dumps(value, allow_nan=False))
    except (SaveError, BrokenPipeError):
        forget_stdout()
        return False
    return True


def say(text: str, *, failure: bool = False) -> None:
    """Print a message; it is dropped if it cannot be shown."""
    if _silent() and not failure:
        return
    with messages() as stream:
        _write(stream, text)


def _write(stream: TextIO | Messages, text: str) -> None:
    """Write the text as any terminal can show it, other characters (a file name may hold any) escaped."""
    encoding = stream.encoding or "utf-8"
    stream.write(_shown(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _shown(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), decoded(text))


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
def counted(title: str, plain_seconds: float | None = None, *, below: bool = False) -> Iterator[Count]:
    """A function that shows progress; its first call tells how many are done at the start.

    On a terminal this is a bar with the time left, and the note behind it or `below`; elsewhere lines, at least
    `plain_seconds` apart.
    """
    pause = PLAIN_SECONDS if plain_seconds is None else plain_seconds
    if _silent():
        yield lambda *_, **__: None
        return
    with _bar(title, below) if Messages(sys.stderr).isatty() else nullcontext(_lines(title, pause)) as count:
        yield count


def _lines(title: str, pause: float) -> Count:
    started = shown = time.monotonic()
    first: int | None = None

    def count(done: int, total: int, note: str, *, due: bool = False) -> None:
        nonlocal shown, first
        now = time.monotonic()
        if first is None:
            first = done
        elif due or now - shown >= pause:
            shown = now
            left = (now - started) / max(done - first, 1) * (total - done)
            say(f"{title}: {done} of {total}, {on_one_line(note)}, {clock(left)} left")

    return count


@contextmanager
def _bar(title: str, below: bool) -> Iterator[Count]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Bar(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield from super().get_renderables()
            if below:
                yield from (Text(task.fields["note"]) for task in self.tasks if task.fields["note"])

    task: TaskID | None = None
    with messages() as stream:
        console = Console(file=cast(TextIO, stream))
        bar = () if below and console.width < NARROW else (BarColumn(None if below else 40),)
        note = TextColumn("left" if below else "{task.fields[note]}", markup=False)
        left = TimeRemainingColumn()
        columns = (TextColumn(title), *bar, MofNCompleteColumn(), *((left, note) if below else (note, left)))
        # data printed meanwhile stays on stdout
        with Bar(*columns, console=console, expand=below, speed_estimate_period=STEADY, redirect_stdout=False) as shown:

            def count(done: int, total: int, note: str, *, due: bool = False) -> None:  # noqa: ARG001
                nonlocal task
                note = _shown(on_one_line(note))  # it may be the name of a file
                if task is None:
                    task = shown.add_task(title, total=total, completed=done, note=note)
                else:
                    shown.update(task, completed=done, note=note)

            yield count


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds, or hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
