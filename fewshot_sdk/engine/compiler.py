"""Compiles the C code once for this processor and caches it; where that is not possible, PyTorch does the work."""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from fewshot_sdk.errors import SaveError
from fewshot_sdk.storage.caches import is_private, private_folder
from fewshot_sdk.storage.drafts import draft_beside, write_durably
from fewshot_sdk.storage.files import sha256
from fewshot_sdk.version import versions

SOURCES = [
    Path(__file__).with_name(name) for name in ("conv4_second_order.c", "conv4.c")
]  # the first includes the second
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-pthread")
SWITCH = "FEWSHOT_NATIVE"


@cache
def library() -> ctypes.CDLL | None:
    """The compiled C code; None without a working C compiler, or with `FEWSHOT_NATIVE=0`.

    The compiler is `$CC`, cc, gcc or clang. The library is cached under the hash of everything it depends on and the
    hash of its bytes; a file with other bytes, or that another user could have written, is compiled anew, not loaded.
    """
    compiler = _compiler()
    if os.environ.get(SWITCH) == "0" or not compiler:
        return None
    source = b"".join(path.read_bytes() for path in SOURCES)
    inputs = b"\n".join([source, shlex.join([*compiler, *FLAGS]).encode(), _processor()])
    key = f"conv4-{sha256(inputs)[:16]}"
    try:
        folder = private_folder(f"native-{0 if sys.platform == 'win32' else os.geteuid()}")
        intact = (path for path in sorted(folder.glob(f"{key}-*.so")) if _is_intact(path))
        code = ctypes.CDLL(str(next(intact, None) or _compile(compiler, folder, key)))
        code.conv4_parameters.restype = code.conv4_bytes.restype = code.conv4_gradient_bytes.restype = ctypes.c_long
        code.conv4_instructions.restype = ctypes.c_char_p
    except (SaveError, OSError, subprocess.SubprocessError, AttributeError):
        return None  # AttributeError: `$CC` made some other library
    return code


def instructions() -> str:
    """What runs the inner loop: `C` and its instruction set, or `torch`."""
    code = library()
    return f"C, {code.conv4_instructions().decode()}" if code else "torch"


def made_with(device: str | None = None) -> dict[str, str]:
    """Versions of all that the exact result of a training or an adaptation depends on besides settings and seed.

    device: the name of the accelerator that ran the inner loop; None for this processor.
    """
    return {**versions(), "inner loop": f"torch, {device}" if device else instructions()}


def _compiler() -> list[str]:
    """The compiler command, split into words; empty if there is no compiler, or `$CC` cannot be parsed."""
    try:
        return shlex.split(os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), ""))
    except ValueError:  # an unclosed quotation mark
        return []


def _compile(compiler: list[str], folder: Path, key: str) -> Path:
    """Compile into `folder`; the path of the new library. Raises OSError, SubprocessError."""
    with draft_beside(folder / key) as draft:
        made, kept = draft / "made.so", draft / "kept.so"
        command = [*compiler, *FLAGS, "-o", str(made), str(SOURCES[0]), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        data = made.read_bytes()
        write_durably(kept, data)
        kept.chmod(0o700)
        return kept.replace(folder / f"{key}-{sha256(data)}.so")


def _is_intact(library: Path) -> bool:
    """Whether a library has the hash in its name, and only this user could have written it."""
    return library.is_file() and is_private(library) and library.stem.endswith(f"-{sha256(library.read_bytes())}")


def _processor() -> bytes:
    """What `-march=native` depends on, so that different machines that share a cache each get their own library."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().split(b"\n\n")[0].splitlines()
        return b"\n".join(line for line in lines if line.startswith((b"model", b"vendor", b"flags", b"Features")))
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
