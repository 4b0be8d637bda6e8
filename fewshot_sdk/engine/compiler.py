"""The C code for this processor, brought by the wheel or compiled here once; without it PyTorch does the work."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from fewshot_sdk.engine.variants import PROCESSOR, SOURCES, command, flags, suffix, variants
from fewshot_sdk.errors import ConfigError, SaveError
from fewshot_sdk.storage.caches import is_private, private_folder
from fewshot_sdk.storage.drafts import draft_beside, write_durably
from fewshot_sdk.storage.files import sha256
from fewshot_sdk.version import versions

SHIPPED = Path(__file__).with_name("native")  # in the wheels for one platform; see hatch_build.py
SWITCH = "FEWSHOT_NATIVE"


@cache
def library() -> ctypes.CDLL | None:
    """The C code in the fastest variant that this processor can run, or in the one that `FEWSHOT_NATIVE` names.

    None with `FEWSHOT_NATIVE=0`, and where the wheel brought no code and there is no working C compiler (`$CC`, cc, gcc
    or clang). What is compiled is cached under the hash of everything it depends on and the hash of its bytes. A file
    with other bytes is not loaded, in the cache also none that another user could have written.
    Raises ConfigError if `FEWSHOT_NATIVE` names something else.
    """
    wanted, known = os.environ.get(SWITCH, ""), list(variants(platform.machine()))
    if wanted == "0":
        return None
    if wanted not in ("", "1", *known):
        raise ConfigError(
            f"{SWITCH}: expected 0 or one of {', '.join(known)}, found {wanted}; unset, the best is taken"
        )
    runnable = _runnable(known)
    if wanted in known and runnable and wanted not in runnable:
        raise ConfigError(f"{SWITCH}={wanted}: this processor runs {', '.join(runnable)}; unset, the best is taken")
    candidates = [name for name in reversed(runnable) if wanted in ("", "1", name)]
    return next((code for name in candidates if (code := _load(name))), None)


def instructions() -> str:
    """What runs the inner loop: `C`, its instruction set and its compiler, or `torch`."""
    code = library()
    return f"C, {code.conv4_instructions().decode()}, {code.conv4_compiler().decode()}" if code else "torch"


def made_with(device: str | None = None) -> dict[str, str]:
    """Versions of all that the exact result of a training or an adaptation depends on besides settings and seed.

    device: the name of the accelerator that ran the inner loop; None for this processor.
    """
    return {**versions(), "inner loop": f"torch, {device}" if device else instructions()}


def _runnable(known: list[str]) -> list[str]:
    """The variants that this processor can run, slowest first; none if that cannot be found out."""
    if len(known) == 1:
        return known
    code = _load(PROCESSOR)
    fastest = code.processor_fastest().decode() if code else ""
    return known[: known.index(fastest) + 1] if fastest else []


def _load(part: str) -> ctypes.CDLL | None:
    """A library of the C code, brought by the wheel or else compiled here; None if neither works."""
    for found in (_shipped, _compiled):
        try:
            if path := found(part):
                return _opened(path, part)
        except (SaveError, OSError, subprocess.SubprocessError, AttributeError):
            continue  # AttributeError: `$CC` made some other library
    return None


def _opened(path: Path, part: str) -> ctypes.CDLL:
    """Raises OSError; AttributeError if it is another library."""
    code = ctypes.CDLL(str(path))
    if part == PROCESSOR:
        code.processor_fastest.restype = ctypes.c_char_p
    else:
        code.conv4_parameters.restype = code.conv4_bytes.restype = code.conv4_gradient_bytes.restype = ctypes.c_ssize_t
        code.conv4_instructions.restype = code.conv4_compiler.restype = ctypes.c_char_p
    return code


def _shipped(part: str) -> Path | None:
    """The library that the wheel brought, as its hash shows; None if it brought none, or it was changed."""
    brought = sorted(SHIPPED.glob(f"{part}-*"))
    intact = next(filter(_has_its_hash, brought), None)
    if brought and not intact:
        logging.getLogger(__name__).warning(
            "%s has changed since it was built and is not used; install fewshot-sdk again", brought[0]
        )
    return intact


def _compiled(part: str) -> Path | None:
    """The library in the cache, compiled if need be; None without a compiler. Raises OSError, SubprocessError."""
    compiler = _compiler()
    if not compiler:
        return None
    source = b"".join(path.read_bytes() for path in SOURCES)
    words = shlex.join([*compiler, *flags(part, platform.machine(), sys.platform)])
    key = f"{part}-{sha256(source + words.encode())[:16]}"
    folder = private_folder(f"native-{0 if sys.platform == 'win32' else os.geteuid()}")
    intact = (path for path in sorted(folder.glob(f"{key}-*")) if _has_its_hash(path) and is_private(path))
    return next(intact, None) or _compile(compiler, part, folder, key)


def _compiler() -> list[str]:
    """The compiler command, split into words; empty if there is no compiler, or `$CC` cannot be parsed."""
    try:
        return shlex.split(os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), ""))
    except ValueError:  # an unclosed quotation mark
        return []


def _compile(compiler: list[str], part: str, folder: Path, key: str) -> Path:
    """Compile into `folder`; the path of the new library. Raises OSError, SubprocessError."""
    ending = suffix(sys.platform)
    with draft_beside(folder / key) as draft:
        made, kept = draft / f"made{ending}", draft / f"kept{ending}"
        words = command(compiler, part, made, platform.machine(), sys.platform)
        subprocess.run(words, check=True, capture_output=True, timeout=300)
        data = made.read_bytes()
        write_durably(kept, data)
        kept.chmod(0o700)
        return kept.replace(folder / f"{key}-{sha256(data)}{ending}")


def _has_its_hash(library: Path) -> bool:
    """Whether it is a file with the hash in its name."""
    return library.is_file() and library.stem.endswith(f"-{sha256(library.read_bytes())}")
