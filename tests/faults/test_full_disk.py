"""What commands do on a disk that is full, by the program `full_disk`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

UNSHARE = shutil.which("unshare")


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or UNSHARE is None, reason="only root can mount a disk"
)
def test_on_a_full_disk_nothing_half_written_stays_and_with_space_the_same_command_succeeds(tmp_path: Path) -> None:
    if subprocess.run([str(UNSHARE), "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("namespaces are forbidden here")
    command = [str(UNSHARE), "--mount", sys.executable, "-m", "tests.faults.full_disk", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each for each in found if each["wrong"]] == []
    assert len(found) == 10
