"""The inner loop in C: compiled once for this processor and kept, done without where that is not possible."""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from fewshot_sdk.storage.files import cache_folder, sha256
from fewshot_sdk.version import versions

SOURCES = [Path(__file__).with_name(name) for name in ("conv4_second_order.c", "conv4.c")]  # it includes this
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-pthread")
SWITCH = "FEWSHOT_NATIVE"


@cache
def library() -> ctypes.CDLL | None:
    """The C code, compiled; None where there is no C compiler that can, or `FEWSHOT_NATIVE=0` says not to.

    The compiler is `$CC`, cc, gcc or clang. What it makes is kept under the hash of all it depends on.
    """
    compiler = shlex.split(os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), ""))
    if os.environ.get(SWITCH) == "0" or not compiler:
        return None
    source = b"".join(path.read_bytes() for path in SOURCES)
    made_from = b"\n".join([source, shlex.join([*compiler, *FLAGS]).encode(), _processor()])
    compiled = cache_folder() / "native" / f"conv4-{sha256(made_from)[:16]}.so"
    try:
        if not compiled.exists():
            _compile(compiler, compiled)
        code = ctypes.CDLL(str(compiled))
    except (OSError, subprocess.SubprocessError):
        return None
    code.conv4_parameters.restype = code.conv4_bytes.restype = code.conv4_slope_bytes.restype = ctypes.c_long
    code.conv4_instructions.restype = ctypes.c_char_p
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


def _compile(compiler: list[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compiling-", dir=target.parent) as draft:
        made = Path(draft) / target.name
        command = [*compiler, *FLAGS, "-o", str(made), str(SOURCES[0]), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        made.replace(target)


def _processor() -> bytes:
    """What `-march=native` looks at, so that a cache shared by unlike machines serves each its own."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().split(b"\n\n")[0].splitlines()
        return b"\n".join(line for line in lines if line.startswith((b"model", b"vendor", b"flags", b"Features")))
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
