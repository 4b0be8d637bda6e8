"""What is compiled, cached and loaded, and what happens where nothing can be compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from ctypes import CDLL
from pathlib import Path

import pytest

from fewshot_sdk.engine import compiler as native
from fewshot_sdk.engine import variants
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import sha256
from tests.conftest import REPOSITORY

COMPILER = next(filter(shutil.which, ("cc", "gcc", "clang")), "")
pytestmark = [
    pytest.mark.skipif(not COMPILER, reason="needs a C compiler"),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such owners and modes"),
]
PRINT_INSTRUCTIONS = "from fewshot_sdk.engine.compiler import instructions; print(instructions())"
COPIES = """#!/usr/bin/env python3
import pathlib, shutil, sys
here = pathlib.Path(sys.argv[0]).parent
chooses = any(word.endswith("processor.c") for word in sys.argv)
shutil.copyfile(here / ("processor.so" if chooses else "made.so"), sys.argv[sys.argv.index("-o") + 1])
if not chooses:
  with (here / "calls").open("a") as calls:
      print("compiled", file=calls)
"""


def run_python(code: str, cache: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FEWSHOT_CACHE": str(cache), **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "broken", [{"FEWSHOT_NATIVE": "0"}, {"CC": "false"}, {"CC": "no-such-compiler"}, {"CC": 'gcc "'}, {"CC": " "}]
)
def test_without_a_compiler_pytorch_does_it(tmp_path: Path, broken: dict[str, str]) -> None:
    assert run_python(PRINT_INSTRUCTIONS, tmp_path, **broken) == "torch"


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run_python(PRINT_INSTRUCTIONS, tmp_path / "file") == "torch"


class Compiler:
    """Stands in for a C compiler: copies what was compiled earlier, and records each call for a variant."""

    def __init__(self, folder: Path, library: CDLL) -> None:
        self.made = folder / "made.so"
        self.cache = folder / "cache"
        self.command = folder / "cc"
        self._calls = folder / "calls"
        shutil.copyfile(library._name, self.made)
        if chooses := native._load(variants.PROCESSOR):
            shutil.copyfile(chooses._name, folder / "processor.so")
        self.command.write_text(COPIES)
        self.command.chmod(0o755)

    @property
    def kept(self) -> Path:
        """The library of a variant in the cache."""
        (library,) = (path for path in self.cache.glob("native-*/*") if not path.name.startswith(variants.PROCESSOR))
        return library

    def load(self) -> tuple[bool, int]:
        """Loads the library as a new process would: whether it is there, and how often it was compiled so far."""
        return native.library.__wrapped__() is not None, self.calls

    @property
    def calls(self) -> int:
        return len(self._calls.read_text().splitlines()) if self._calls.exists() else 0


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, c_code: CDLL) -> Compiler:
    """An own cache and a compiler that has not been called yet."""
    found = Compiler(tmp_path, c_code)
    monkeypatch.setenv("FEWSHOT_CACHE", str(found.cache))
    monkeypatch.setenv("CC", str(found.command))
    return found


def test_compiled_once_and_kept(compiler: Compiler) -> None:
    assert run_python(PRINT_INSTRUCTIONS, compiler.cache).startswith("C, ")
    before = compiler.kept.stat().st_mtime_ns
    assert run_python(PRINT_INSTRUCTIONS, compiler.cache, PATH="/nowhere", CC="") == "torch"
    assert run_python(PRINT_INSTRUCTIONS, compiler.cache).startswith("C, ")
    assert (compiler.calls, compiler.kept.stat().st_mtime_ns) == (1, before)


def test_what_is_compiled_is_for_its_user_alone_whatever_the_umask(compiler: Compiler) -> None:
    before = os.umask(0)
    try:
        assert compiler.load() == (True, 1)
    finally:
        os.umask(before)
    assert compiler.kept.stat().st_mode & 0o777 == 0o700
    assert compiler.kept.parent.stat().st_mode & 0o777 == 0o700
    assert compiler.load() == (True, 1)


def rewrite(path: Path, data: bytes) -> None:
    """Replace the file rather than change it: this process still uses the old one."""
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o700)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(path, bytes(data))


def foreign(folder: Path) -> bytes:
    """A valid library without any of the functions."""
    (folder / "foreign.c").write_text("int foreign(void) { return 1; }")
    command = [COMPILER, "-shared", "-fPIC", "-o", str(folder / "foreign.so"), str(folder / "foreign.c")]
    subprocess.run(command, check=True)
    return (folder / "foreign.so").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: rewrite(path, path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: rewrite(path, b""),
        lambda path: rewrite(path, foreign(path.parents[2])),
        lambda path: path.unlink(),
        lambda path: path.chmod(0o720),
        lambda path: path.chmod(0o702),
    ],
    ids=["a bit", "cut", "empty", "another", "gone", "its group may write", "others may write"],
)
def test_a_library_that_is_not_what_was_compiled_is_compiled_anew(
    compiler: Compiler, damage: Callable[[Path], object]
) -> None:
    assert compiler.load() == (True, 1)
    damage(compiler.kept)
    assert compiler.load() == (True, 2)
    assert compiler.kept.read_bytes() == compiler.made.read_bytes()
    assert compiler.load() == (True, 2)


@pytest.mark.skipif(os.name != "nt" and os.geteuid() != 0, reason="only root can give a file away")
def test_a_library_or_a_folder_of_another_user_is_never_loaded(compiler: Compiler) -> None:
    assert compiler.load() == (True, 1)
    os.chown(compiler.kept, 12345, -1)
    assert compiler.load() == (True, 2)
    os.chown(compiler.kept.parent, 12345, -1)
    assert compiler.load() == (False, 2)


def test_a_folder_that_others_may_write_to_is_closed_to_them(compiler: Compiler) -> None:
    assert compiler.load() == (True, 1)
    compiler.kept.parent.chmod(0o777)
    assert compiler.load() == (True, 1)
    assert compiler.kept.parent.stat().st_mode & 0o777 == 0o700


def test_links_to_a_library_are_not_followed(compiler: Compiler, tmp_path: Path) -> None:
    assert compiler.load() == (True, 1)
    library, folder = compiler.kept, compiler.kept.parent
    library.rename(tmp_path / "elsewhere.so")
    library.symlink_to(tmp_path / "elsewhere.so")
    assert compiler.load() == (True, 2)
    assert not library.is_symlink()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert compiler.load() == (False, 2)


@pytest.mark.parametrize("made", [lambda _: b"", lambda _: b"no library", foreign])
def test_a_compiler_that_makes_something_else_is_done_without(
    compiler: Compiler, made: Callable[[Path], bytes], tmp_path: Path
) -> None:
    compiler.made.write_bytes(made(tmp_path))
    assert not compiler.load()[0]


@pytest.fixture
def shipped(compiler: Compiler, c_code: CDLL, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library of the best variant as a wheel brings it."""
    folder = compiler.made.with_name("native")
    folder.mkdir()
    monkeypatch.setattr(native, "SHIPPED", folder)
    for part, made in ((variants.PROCESSOR, "processor.so"), (c_code.conv4_instructions().decode(), "made.so")):
        if (path := compiler.made.with_name(made)).exists():
            shutil.copyfile(path, library := folder / f"{part}-{sha256(path.read_bytes())}.so")
    return library


def test_what_the_wheel_brought_is_used_without_a_compiler(
    compiler: Compiler, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    code = native.library.__wrapped__()
    assert code is not None
    assert code._name == str(shipped)
    assert compiler.calls == 0


@pytest.mark.parametrize(
    "damage", [flip, lambda path: rewrite(path, path.read_bytes()[:5000]), lambda path: rewrite(path, b"")],
    ids=["a bit", "cut", "empty"],
)  # fmt: skip
def test_what_was_changed_in_an_installed_wheel_is_not_loaded_and_said(
    compiler: Compiler, shipped: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    damage(shipped)
    assert compiler.load() == (True, 1)
    assert [record.message for record in caplog.records] == [
        f"{shipped} has changed since it was built and is not used; install fewshot-sdk again"
    ]


def test_a_variant_may_be_named(compiler: Compiler, c_code: CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSHOT_NATIVE", c_code.conv4_instructions().decode())
    assert compiler.load() == (True, 1)
    monkeypatch.setenv("FEWSHOT_NATIVE", "mmx")
    with pytest.raises(ConfigError, match=r"FEWSHOT_NATIVE: expected 0 or one of .*, found mmx"):
        compiler.load()


def test_a_variant_that_the_processor_cannot_run_is_refused(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(native, "_runnable", lambda _: ["sse4", "avx2"])
    monkeypatch.setenv("FEWSHOT_NATIVE", "avx512")
    with pytest.raises(ConfigError, match="FEWSHOT_NATIVE=avx512: this processor runs sse4, avx2"):
        compiler.load()
    assert compiler.calls == 0
