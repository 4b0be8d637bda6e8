from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewshot_cli import output
from fewshot_cli.main import app
from fewshot_sdk.errors import SaveError
from tests.conftest import REPOSITORY

MAIN = [sys.executable, "-m", "fewshot_cli.main"]


class Full(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, _: str) -> int:
        raise self.error


def broken() -> list[object]:
    closed = io.StringIO()
    closed.close()
    return [Full(OSError(28, "No space left on device")), Full(BrokenPipeError(32, "Broken pipe")), closed, None]


@pytest.mark.parametrize("stream", broken())
def test_a_message_that_cannot_be_shown_ends_nothing(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    output.say("hello")
    assert list(output.progress(iter("abc"), 3, "spelling", str.upper)) == ["a", "b", "c"]


def test_a_bar_goes_on_when_its_terminal_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()

    def letters() -> Iterator[str]:
        yield "a"
        os.close(ours)
        yield "b"

    terminal = os.fdopen(theirs, "w")
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(output.progress(letters(), 2, "spelling", str.upper)) == ["a", "b"]
    output.say("done")
    with contextlib.suppress(OSError):
        terminal.close()


@pytest.mark.parametrize(
    ("stream", "reason"), [(0, "no space left on device"), (2, "i/o operation on closed file"), (3, "it is closed")]
)
def test_data_that_cannot_be_written_is_reported(stream: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", broken()[stream])
    with pytest.raises(SaveError, match=f"cannot write to standard output: {reason}"):
        output.emit("data")


def test_a_closed_pipe_is_not_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdout", broken()[1])
    with pytest.raises(SystemExit) as stop:
        app(["--version"])
    assert (stop.value.code, capsys.readouterr().err) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
def test_lost_data_is_one_sentence_and_exit_1(where: str) -> None:
    done = shell(f'"$@" --version {where}')
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write to standard output: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_lost_messages_change_no_exit_code(where: str, drawings: Path) -> None:
    assert shell(f'"$@" doctor {drawings} {where}').returncode == 0


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    ask = "from fewshot_cli.streams import open_closed_streams as o; o(); print(open('/dev/null').fileno())"
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- 2>&-', "sh", sys.executable, "-c", ask], cwd=REPOSITORY / "cli", capture_output=True
    )
    assert int(done.stdout) == 3


def shell(command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
    return subprocess.run(
        ["sh", "-c", command, "sh", *MAIN], capture_output=True, text=True, env=environment, check=False
    )
