"""Puts compiled code into the wheel of the platform that `FEWSHOT_WHEEL` names; without it the wheel is pure.

    FEWSHOT_WHEEL=manylinux_2_17_x86_64 python -m build --wheel

Zig's Clang compiles for every platform on any other. `make wheels` builds all.
"""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ASKED = "FEWSHOT_WHEEL"
PLATFORMS = {  # the wheel's tag: zig's name, and what `platform.machine()` and `sys.platform` say there
    "manylinux_2_17_x86_64": ("x86_64-linux-gnu.2.17", "x86_64", "linux"),
    "manylinux_2_17_aarch64": ("aarch64-linux-gnu.2.17", "aarch64", "linux"),
    "musllinux_1_2_x86_64": ("x86_64-linux-musl", "x86_64", "linux"),
    "musllinux_1_2_aarch64": ("aarch64-linux-musl", "aarch64", "linux"),
    "macosx_11_0_x86_64": ("x86_64-macos.11.0", "x86_64", "darwin"),
    "macosx_11_0_arm64": ("aarch64-macos.11.0", "arm64", "darwin"),
    "win_amd64": ("x86_64-windows-gnu", "AMD64", "win32"),
}
COMPILER = "ziglang==0.17.1"  # as in constraints.txt; the libraries' bytes depend on it


class CompiledCode(BuildHookInterface[Any]):
    """Hatchling finds it by `[tool.hatch.build.targets.wheel.hooks.custom]`."""

    def dependencies(self) -> list[str]:
        """What an isolated build installs besides Hatchling."""
        return [COMPILER] if os.environ.get(ASKED) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile all variants and add them to the wheel."""
        tag = os.environ.get(ASKED)
        if not tag or version == "editable":
            return
        if tag not in PLATFORMS:
            raise ValueError(f"{ASKED}: expected one of {', '.join(PLATFORMS)}, found {tag}")
        self._made = Path(tempfile.mkdtemp(prefix="fewshot-wheel-"))
        build_data.update(pure_python=False, tag=f"py3-none-{tag}")
        for library in compile_all(Path(self.root), self._made, *PLATFORMS[tag]):
            build_data["force_include"][str(library)] = f"fewshot_sdk/engine/native/{library.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel now contains."""
        if os.environ.get(ASKED) and version != "editable":
            shutil.rmtree(self._made)


def compile_all(root: Path, folder: Path, target: str, machine: str, system: str) -> list[Path]:
    """The libraries for a platform, in `folder`, each with the hash of its bytes in its name."""
    table = runpy.run_path(str(root / "fewshot_sdk" / "engine" / "variants.py"))
    made = []
    for part in table["parts"](machine):
        library = folder / f"{part}{table['suffix'](system)}"
        words = table["command"](
            [sys.executable, "-m", "ziglang", "cc", "-target", target], part, library, machine, system
        )
        if system == "darwin":  # otherwise the folder's path would be in it
            words.append(f"-Wl,-install_name,@rpath/{library.name}")
        subprocess.run([*words, "-s"], check=True)
        digest = hashlib.sha256(library.read_bytes()).hexdigest()
        made.append(library.rename(folder / f"{part}-{digest}{library.suffix}"))
    return made
