from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fewshot_sdk.engine.variants import SOURCES
from fewshot_sdk.storage.repositories import bundled
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # Without isolation: hatchling is already here, and tests use no network.
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_its_top_level_is_exactly_the_two_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"fewshot_sdk", "fewshot_cli"}
    assert "fewshot_sdk/py.typed" in names
    assert "fewshot_cli/py.typed" in names
    assert {f"fewshot_sdk/engine/{source.name}" for source in SOURCES} <= set(names)  # it is compiled where it is used
    templates = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "fewshot_sdk").rglob("*.j2")}
    assert {"fewshot_sdk/storage/templates/classifier.md.j2", "fewshot_sdk/web/assets/report.html.j2"} <= templates
    assert templates <= set(names)
    for licence in ("LICENSE", "NOTICE"):
        assert any(name.endswith(f"licenses/{licence}") for name in names)
    assert {name for name in names if "test" in name} == {
        "fewshot_cli/commands/test.py",
        *(f"fewshot_sdk/testing/{n}.py" for n in ("__init__", "hub", "http", "protocol", "repositories")),
    }  # the command, and what is for users' tests


def test_it_carries_the_bundled_initializations_whole(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    for name, folder in bundled().items():
        for file in folder.iterdir():
            assert archive.read(f"fewshot_sdk/models/{name}/{file.name}") == file.read_bytes()
    assert "omniglot" in bundled()


def test_unpacked_elsewhere_it_finds_its_own_models(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = """
import fewshot_sdk
from fewshot_sdk.storage.repositories import bundled
print(fewshot_sdk.__file__)
print(bundled()["omniglot"])
init = fewshot_sdk.load("omniglot")
print(init.recipe.preset)
print(init.files()["README.md"] == (bundled()["omniglot"] / "README.md").read_bytes())
"""
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n{program}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    home, models, preset, same_card = done.stdout.split()
    assert home.startswith(str(tmp_path))
    assert models == str(tmp_path / "site" / "fewshot_sdk" / "models" / "omniglot")
    assert (preset, same_card) == ("omniglot", "True")


def test_the_constraints_pin_every_requirement() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    wanted = {
        requirement.partition(">=")[0].partition("[")[0].lower() for requirement in project["dependencies"] + extras
    }
    wanted.discard("fewshot-sdk")
    assert wanted - {"trackio"} <= pinned  # it needs Pillow 12, while everything is tested with 13
    assert "torch==2.13.0" in lines


def test_make_builds_a_wheel_for_each_platform_with_the_pinned_compiler() -> None:
    hook = runpy.run_path(str(REPOSITORY / "hatch_build.py"))
    (listed,) = re.findall(r"^PLATFORMS := ((?:.*\\\n)*.*)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert listed.replace("\\\n", "").split() == list(hook["PLATFORMS"])
    assert hook["COMPILER"] in (REPOSITORY / "constraints.txt").read_text().splitlines()


def test_a_wheel_for_a_platform_that_nothing_is_known_of_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    environment = {**os.environ, "FEWSHOT_WHEEL": "amiga"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "expected one of manylinux_2_17_x86_64, " in done.stderr
    assert not list(tmp_path.iterdir())
