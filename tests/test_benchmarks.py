from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import REPOSITORY


def test_the_meta_training_benchmark_compares_two_loops_that_agree() -> None:
    """It stops by itself if the usual loop and ours end in other weights; the figures are not judged here."""
    words = ["--rounds", "1", "--steps", "1", "--workers", "1", "--json"]
    command = [sys.executable, "-m", "benchmarks.meta_training", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {"ratio", "ratio_min", "ratio_max", "tasks_per_second", "share_of_peak"}
    assert found["ratio_min"] <= found["ratio"] <= found["ratio_max"]
    assert 0 < found["share_of_peak"] < 1
    assert found["tasks_per_second"] > 0
