"""The variants of the C code, one for each set of instructions: compiled alike on first use and for the wheels.

It imports nothing of the library, because `hatch_build.py` reads it where nothing is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PROCESSOR = "processor"  # the library that says which variants an x86-64 processor can run
# Contraction is named because GCC and Clang differ in it by default, and with it in their results' last bits.
FLAGS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-pthread")
# Single instruction sets, not -march=x86-64-v4: that makes Clang halve 512-bit vectors, and GCC 10 does not know it.
_SSE4 = ("-msse4.2",)  # every x86-64-v2
_AVX2 = (*_SSE4, "-mavx2", "-mfma")  # every x86-64-v3
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")  # every x86-64-v4
_X86_64 = {"sse4": _SSE4, "avx2": _AVX2, "avx512": _AVX512, "avx512_bf16": (*_AVX512, "-mavx512bf16")}
_FOLDER = Path(__file__).parent
SOURCES = [
    _FOLDER / name for name in ("processor.c", "conv4_second_order.c", "conv4.c")
]  # the second includes the last


def variants(machine: str) -> dict[str, tuple[str, ...]]:
    """The flags of each variant for this kind of machine, slowest first.

    machine: as `platform.machine()` names it.
    """
    match machine.lower():
        case "x86_64" | "amd64":
            return _X86_64
        case "aarch64" | "arm64":
            return {"neon": ()}
    return {"portable": ()}


def parts(machine: str) -> list[str]:
    """The libraries of a wheel for this kind of machine: the variants, and what chooses one."""
    names = list(variants(machine))
    return [PROCESSOR, *names] if len(names) > 1 else names


def suffix(system: str) -> str:
    """How the name of a library ends. system: as `sys.platform` names it."""
    return {"win32": ".dll", "darwin": ".dylib"}.get(system, ".so")


def flags(part: str, machine: str, system: str) -> tuple[str, ...]:
    """The compiler's options for a part, `processor` or a variant."""
    return (*FLAGS, *(() if system == "win32" else ("-fPIC",)), *variants(machine).get(part, ()))


def command(compiler: Sequence[str], part: str, made: Path, machine: str, system: str) -> list[str]:
    """What compiles a part into the library `made`."""
    source = SOURCES[0] if part == PROCESSOR else SOURCES[1]
    return [*compiler, *flags(part, machine, system), "-o", str(made), str(source), "-lm"]
