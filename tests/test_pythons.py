from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.pythons import interpreters


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.environ.get("FEWSHOT_NETWORK") != "1", reason="installs from the network; FEWSHOT_NETWORK=1")
def test_every_python_that_is_here_predicts_the_same_from_the_wheel() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.pythons"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(": as expected\n") == len(interpreters())
