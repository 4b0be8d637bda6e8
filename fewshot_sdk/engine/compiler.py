"""The inner loop in C: compiled once for this processor and kept, done without where that is not possible."""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path

from fewshot_sdk.storage.drafts import draft_beside, write_durably
from fewshot_sdk.storage.files import cache_folder, sha256
from fewshot_sdk.version import versions

SOURCES = [Path(__file__).with_name(name) for name in ("conv4_second_order.c", "conv4.c")]  # it includes this
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-pthread")
SWITCH = "FEWSHOT_NATIVE"


@cache
def library() -> ctypes.CDLL | None:
    """The C code, compiled; None where there is no C compiler that can, or `FEWSHOT_NATIVE=0` says not to.

    The compiler is `$CC`, cc, gcc or clang. What it makes is kept under the hashes of all it depends on and of its
    own bytes; a file that is not those bytes, or that another user could have written, is made anew, never loaded.
    """
    compiler = _compiler()
    if os.environ.get(SWITCH) == "0" or not compiler:
        return None
    source = b"".join(path.read_bytes() for path in SOURCES)
    made_from = b"\n".join([source, shlex.join([*compiler, *FLAGS]).encode(), _processor()])
    key = f"conv4-{sha256(made_from)[:16]}"
    folder = cache_folder() / f"native-{_user()}"
    try:
        if not _is_own(folder):
            _make_own(folder)
        whole = (path for path in sorted(folder.glob(f"{key}-*.so")) if _is_whole(path))
        code = ctypes.CDLL(str(next(whole, None) or _compile(compiler, folder, key)))
        code.conv4_parameters.restype = code.conv4_bytes.restype = code.conv4_gradient_bytes.restype = ctypes.c_long
        code.conv4_instructions.restype = ctypes.c_char_p
    except (OSError, subprocess.SubprocessError, AttributeError):  # the last: what `$CC` made is another library
        return None
    return code


def instructions() -> str:
    """What the inner loop runs on: the C code's instruction set, or `torch`."""
    code = library()
    return f"C, {code.conv4_instructions().decode()}" if code else "torch"


def made_with(device: str | None = None) -> dict[str, str]:
    """What the bits of a training or an adaptation depend on besides settings and seed: name -> version.

    device: the name of another one than this processor, where the inner loop ran.
    """
    return {**versions(), "inner loop": f"torch, {device}" if device else instructions()}


def _compiler() -> list[str]:
    """The compiler's words; none if there is none, or `$CC` cannot be taken apart."""
    try:
        return shlex.split(os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), ""))
    except ValueError:  # a quotation mark without its other
        return []


def _compile(compiler: list[str], folder: Path, key: str) -> Path:
    """The new library in `folder`. Raises OSError, SubprocessError."""
    with draft_beside(folder / key) as draft:
        made, kept = draft / "made.so", draft / "kept.so"
        command = [*compiler, *FLAGS, "-o", str(made), str(SOURCES[0]), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        data = made.read_bytes()
        write_durably(kept, data)
        kept.chmod(0o700)
        return kept.replace(folder / f"{key}-{sha256(data)}.so")


def _is_whole(library: Path) -> bool:
    """Whether a library's bytes are those that its name says, and only this user could have written them."""
    return library.is_file() and _is_own(library) and library.stem.endswith(f"-{sha256(library.read_bytes())}")


def _is_own(path: Path) -> bool:
    """Whether something is there, no link, that belongs to this user and that nobody else may write to."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(status.st_mode):
        return False
    return os.name == "nt" or (status.st_uid == _user() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _make_own(folder: Path) -> None:
    """Make a folder that only this user may enter. Raises OSError if it is another's, or there is no room."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_symlink():
        folder.chmod(0o700)
    if not _is_own(folder):
        raise PermissionError(f"{folder} is not this user's own")


def _user() -> int:
    return 0 if sys.platform == "win32" else os.geteuid()


def _processor() -> bytes:
    """What `-march=native` looks at, so that a cache shared by unlike machines serves each its own."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().split(b"\n\n")[0].splitlines()
        return b"\n".join(line for line in lines if line.startswith((b"model", b"vendor", b"flags", b"Features")))
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
