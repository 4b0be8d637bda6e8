"""What is saved while the disk refuses one change after another, by the program `saves`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or COMPILER is None, reason="refuses calls by a library in LD_PRELOAD, compiled here"
)
SHORT = ("an initialization", "a folder that replaces another", "a checkpoint that replaces another")


def results(folder: Path, every: int, *kinds: str) -> list[dict[str, object]]:
    library, home = folder / "refuse.so", folder / "home"
    home.mkdir()
    source = REPOSITORY / "tests" / "faults" / "refuse.c"
    subprocess.run([str(COMPILER), "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "FEWSHOT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "tests.faults.saves", str(home), str(every), *kinds]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_whatever_the_disk_refuses_the_old_is_intact_and_nothing_half_written_stays(tmp_path: Path) -> None:
    found = results(tmp_path, 4, *SHORT)
    assert [each["kind"] for each in found] == list(SHORT)
    assert [each["wrong"] for each in found] == [[]] * len(SHORT)
    assert all(each["refused"] for each in found)


@pytest.mark.slow
def test_every_change_of_every_kind_of_output_may_be_refused(tmp_path: Path) -> None:
    found = results(tmp_path, 1)
    assert {each["kind"] for each in found if each["wrong"]} == set()
    assert len(found) == 12
