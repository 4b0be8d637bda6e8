"""The wheel with compiled code: it needs ziglang, which `make test-all` and `make wheels` install."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fewshot_sdk.engine.compiler import _runnable
from fewshot_sdk.engine.variants import parts, variants
from tests.conftest import REPOSITORY

MACHINE = platform.machine()
TARGETS = {"x86_64": "x86_64-linux-gnu.2.17", "aarch64": "aarch64-linux-gnu.2.17"}
TAG = f"manylinux_2_17_{MACHINE}"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="needs ziglang"),
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or MACHINE not in TARGETS, reason="no wheel for this machine"),
]
PRINT_BITS = """
import hashlib
from fewshot_sdk.engine.compiler import instructions
from fewshot_sdk.engine.inner_loop import fine_tune
from tests.engine.test_compiled import NETWORKS, InnerLoop, case, torch
print(instructions())
seen = hashlib.sha256()
for name in NETWORKS:
    for precision in ("float32", "bfloat16"):
        inner = InnerLoop(learning_rate=1e-3, batch_size=7, steps=3, precision=precision)
        network, start, images, labels = case(name)
        end, losses = fine_tune(network, start, images, labels, torch.arange(21).view(3, 7), inner)
        for tensor in [*end.params.values(), losses]:
            seen.update(tensor.numpy().tobytes())
print(seen.hexdigest())
"""


def built(out: Path, tag: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "FEWSHOT_WHEEL": tag}, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("wheel"), TAG)


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, as an installation is."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    (folder / "tests").symlink_to(REPOSITORY / "tests")
    return folder


def bits(site: Path, cache: Path, **environment: str) -> list[str]:
    """What runs the inner loop, and the hash of what comes of it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{PRINT_BITS}"],
        env={**os.environ, "FEWSHOT_CACHE": str(cache), **environment},
        cwd=site,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_its_name_and_its_metadata_name_the_platform(wheel: Path) -> None:
    assert wheel.name.endswith(f"-py3-none-{TAG}.whl")
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    libraries = [name for name in names if name.startswith("fewshot_sdk/engine/native/")]
    assert [re.sub(r"-[0-9a-f]{64}\.so$", "", name.rpartition("/")[2]) for name in libraries] == sorted(parts(MACHINE))
    (about,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
    assert "Root-Is-Purelib: false" in archive.read(about).decode()
    assert not [name for name in names if name.endswith("hatch_build.py")]


def test_built_twice_it_is_the_same_to_the_byte(wheel: Path, tmp_path: Path) -> None:
    assert built(tmp_path, TAG).read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize("variant", variants(MACHINE))
def test_without_a_compiler_each_variant_gives_the_bits_that_compiling_it_here_gives(
    variant: str, site: Path, tmp_path: Path
) -> None:
    if variant not in _runnable(list(variants(MACHINE))):
        pytest.skip("this processor cannot run it")
    brought = bits(site, tmp_path / "none", FEWSHOT_NATIVE=variant, CC="", PATH="/nowhere")
    assert not (tmp_path / "none").exists()
    assert brought[0].startswith(f"C, {variant}, clang ")
    zig = f"{sys.executable} -m ziglang cc -target {TARGETS[MACHINE]}"
    assert bits(REPOSITORY, tmp_path / "zig", FEWSHOT_NATIVE=variant, CC=zig) == brought


@pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump")
@pytest.mark.parametrize(
    ("variant", "registers"), [("processor", "[yz]mm"), ("sse4", "[yz]mm"), ("avx2", "zmm"), ("avx512", "dpbf16")]
)
def test_a_variant_has_no_instructions_of_a_faster_one(variant: str, registers: str, site: Path) -> None:
    if variant not in parts(MACHINE):
        pytest.skip("not a variant of this machine")
    (library,) = (site / "fewshot_sdk" / "engine" / "native").glob(f"{variant}-*")
    code = subprocess.run(["objdump", "-d", str(library)], check=True, capture_output=True, text=True).stdout
    assert "ret" in code
    assert not re.search(registers, code)
