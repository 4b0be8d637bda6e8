from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fewshot_sdk.errors import SaveError
from fewshot_sdk.storage import files, replacement
from fewshot_sdk.storage.drafts import draft_beside, scratch
from tests.conftest import REPOSITORY

OLD = {"config.json": b"old", "model.safetensors": b"\x00" * 100, "model.sig": b"signed", "in/old": b"1"}
NEW = {"config.json": b"new", "model.safetensors": b"\x01" * 50, "README.md": b"# more", "in/new": b"2"}
posix = pytest.mark.skipif(os.name == "nt", reason="folders are locked on POSIX alone")


def listing(folder: Path) -> list[str]:
    """The files and empty folders."""
    entries = [entry for entry in folder.rglob("*") if not (entry.is_dir() and any(entry.iterdir()))]
    return sorted(entry.relative_to(folder).as_posix() for entry in entries)


def cannot(_one: Path, _other: Path) -> bool:
    return False


def python(program: str, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_replaced_folder_holds_the_new_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(replacement, "exchange", cannot)
    folder = files.write_folder(tmp_path / "out", OLD)
    assert replacement.replace_folder(folder, NEW) == folder
    assert files.read_folder(folder) == NEW
    assert listing(folder) == sorted([*NEW, "manifest.json"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_what_else_lies_in_a_replaced_folder_stays(tmp_path: Path) -> None:
    folder = files.write_folder(tmp_path / "out", OLD)
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_bytes(b"mine")
    replacement.replace_folder(folder, NEW)
    assert (folder / ".git" / "HEAD").read_bytes() == b"mine"
    assert files.read_folder(folder) == NEW


@posix
def test_a_link_still_leads_to_the_replaced_folder(tmp_path: Path) -> None:
    folder = files.write_folder(tmp_path / "there" / "out", OLD)
    (tmp_path / "link").symlink_to(folder)
    replacement.replace_folder(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert files.read_folder(folder) == NEW


def test_a_replacement_that_the_disk_refuses_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = files.write_folder(tmp_path / "out", OLD)

    def refuse(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SaveError, match="no space"):
        replacement.replace_folder(folder, NEW)
    monkeypatch.undo()
    assert files.read_folder(folder) == OLD
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


KILLED = f"""
import itertools, os, shutil, signal, sys
from pathlib import Path
from fewshot_sdk.storage import replacement
from fewshot_sdk.storage.files import read_folder, write_folder

OLD, NEW = {OLD}, {NEW}

def listing(folder):
    return sorted(entry.relative_to(folder).as_posix() for entry in folder.rglob("*") if not entry.is_dir())

os.fsync = lambda _: None
how, home = sys.argv[1], Path(sys.argv[2])
if how == "one by one":
    replacement.exchange = lambda one, other: False
calls = []
for last in itertools.count(1):
    folder = write_folder(home / "out", OLD)
    child = os.fork()
    if child == 0:
        def watch(event, args):
            if not calls:
                calls.append(itertools.count(1))
            if next(calls[0]) == last:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(watch)
        replacement.replace_folder(folder, NEW)
        os._exit(0)
    done = os.waitpid(child, 0)[1] == 0
    found = read_folder(folder)
    assert found == NEW or (found == OLD and not done), last
    replacement.replace_folder(folder, {{**found, "again": b"1"}})
    assert read_folder(folder) == {{**found, "again": b"1"}}, last
    assert [entry.name for entry in home.iterdir()] == ["out"], (last, listing(home))
    assert set(listing(folder)) <= {{*OLD, *NEW, "again", "manifest.json"}}, (last, listing(folder))
    shutil.rmtree(folder)
    if done:
        break
print(last)
"""


@posix
@pytest.mark.parametrize("how", ["at once", "one by one"])
def test_killed_before_any_call_the_old_or_the_new_folder_is_there_and_the_next_one_clears_up(
    tmp_path: Path, how: str
) -> None:
    """Killed before its first system call, its second, and so on, until it runs to the end."""
    program = python(KILLED, how, tmp_path)
    out, _ = program.communicate(timeout=120)
    assert program.returncode == 0
    assert int(out) > 20


HOLDS = """
import sys
from pathlib import Path
from fewshot_sdk.storage.drafts import draft_beside, scratch
with draft_beside(Path(sys.argv[1])) as draft:
    (draft / "half").write_bytes(b"1")
    print(draft, flush=True)
    sys.stdin.read()
"""


@contextmanager
def drafting(target: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that holds a draft and waits, and that draft."""
    program = python(HOLDS, target)
    assert program.stdout is not None
    try:
        yield program, Path(program.stdout.readline().strip())
    finally:
        program.kill()
        program.communicate()


@posix
def test_drafts_of_the_dead_are_removed_by_the_next_one_and_those_of_the_living_stay(tmp_path: Path) -> None:
    with drafting(tmp_path / "a") as (dead, left), drafting(tmp_path / "b") as (_, alive):
        dead.kill()
        dead.wait()
        assert listing(left) == ["half"]
        files.write_file(tmp_path / "c", b"1")
        assert not left.exists()
        assert listing(alive) == ["half"]


def test_whatever_is_made_in_the_temporary_folder_is_a_draft() -> None:
    names = ("TemporaryDirectory", "NamedTemporaryFile", "mkdtemp", "mkstemp")
    sources = [path for room in ("fewshot_sdk", "cli") for path in (REPOSITORY / room).rglob("*.py")]
    makers = {path.name for path in sources if any(f"{name}(" in path.read_text(encoding="utf-8") for name in names)}
    assert makers == {"drafts.py", "run.py"}  # which keeps what the disk refuses to take elsewhere


@posix
def test_what_a_dead_process_left_in_the_temporary_folder_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with drafting(tmp_path / "a") as (dead, left):
        dead.kill()
        dead.wait()
        with scratch() as folder:
            assert folder.parent == tmp_path
            assert not left.exists()
    assert not list(tmp_path.iterdir())


@posix
def test_drafts_of_another_machine_and_what_only_looks_like_one_stay(tmp_path: Path) -> None:
    for name in (".fewshot-draft-000000-abcdefgh", ".c.abcdefgh", "c.checkpoint"):
        (tmp_path / name).mkdir()
    before = listing(tmp_path)
    files.write_file(tmp_path / "c", b"1")
    assert listing(tmp_path) == sorted([*before, "c"])


@posix
def test_a_draft_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = os.mkdir, []

    def lost_once(path: str, *settings: int) -> None:
        real(path, *settings)
        made.append(path)
        if len(made) == 1:
            os.rmdir(path)  # noqa: PTH106

    monkeypatch.setattr(os, "mkdir", lost_once)
    with draft_beside(tmp_path / "out") as draft:
        assert draft.is_dir()
    assert len(made) == 2
