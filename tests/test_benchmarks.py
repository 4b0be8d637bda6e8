from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from benchmarks.algorithms import NAMES, recipe_of
from benchmarks.processes import Child, ProcessFailed, finish
from benchmarks.scaling import Network, efficiency, most_machines
from tests.conftest import REPOSITORY


def run(module: str, *words: str) -> dict[str, float]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *words, "--json"]
    calm = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # the usual loop's threads spin, for minutes if others compute
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env=calm)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_the_meta_training_benchmark_compares_two_loops_that_agree() -> None:
    """It stops by itself if the usual loop and ours end in other weights; the figures are not judged here."""
    found = run("meta_training", "--rounds", "1", "--steps", "1", "--workers", "1")
    assert {"ratio", "ratio_min", "ratio_max", "tasks_per_second", "share_of_peak"} < found.keys()
    assert found["ratio_min"] <= found["ratio"] <= found["ratio_max"]
    assert found["share_of_peak"] > 0  # over 1 is possible: of float32's best, by products in bfloat16
    assert found["tasks_per_second"] > 0


def test_the_adaptation_benchmark_compares_two_loops_that_agree() -> None:
    found = run("adaptation", "--rounds", "1", "--tasks", "2", "--workers", "1")
    assert found["queries_agreed"] >= 0.8
    assert found["adaptation_ms"] > 0
    assert {f"ratio_{name}" for name in ("adaptation", "evaluation")} < found.keys()


def test_the_benchmark_of_the_choice_compares_promises_with_what_was_kept() -> None:
    found = run("honest_choice", "--tasks", "1", "--ways", "3", "--shots", "2", "--data", "glyphs")
    assert 0.3 < found["accuracy_auto"] <= 1  # chance is a third
    assert 0 <= found["ece"] <= 1
    assert {"auroc", "auroc_promised", "unknown_rejected", "unknown_rejected_promised"} < found.keys()


def test_the_benchmark_of_the_command_measures_processes_of_their_own() -> None:
    found = run("adapt_command", "--rounds", "1", "--photos", "0", "--side", "400")
    for case in ("auto", "reptile"):
        assert found[f"{case}_processor_seconds"] > 0
        assert 50 < found[f"{case}_megabytes"] < 1000


def test_the_learner_benchmark_compares_two_loops_that_agree() -> None:
    found = run("learner", "--rounds", "1", "--steps", "2")
    assert found["queries_agreed"] == 1
    assert 0 < found["learner_ms_min"] <= found["learner_ms"]


def test_the_inference_benchmark_compares_exports_with_pytorch() -> None:
    words = ("--preset", "glyphs", "--side", "40", "--rounds", "1", "--threads", "1", "--no-compile")
    found = run("inference", *words)
    for name in ("fp32", "int8"):
        assert found[f"{name}_ms_batch1_threads1"] > 0
        assert found[f"{name}_ratio_batch64_threads1"] > 0
    assert 0 < found["predict_seconds_min"] <= found["predict_seconds"]
    assert found["predict_megabytes"] < 150


def test_the_benchmark_of_deltas_keeps_answers_and_saves_memory() -> None:
    found = run("deltas", "--users", "40", "--adaptations", "2", "--precision", "float32")
    assert found["agreed"] == 1
    assert found["held_mb"] - found["base_mb"] < 40 * 4 * found["delta_kb"] / 1000
    assert found["answer_ms"] > 0


def test_the_scaling_benchmark_measures_and_models() -> None:
    found = run("scaling", "--seconds", "0.2", "--bandwidth", "10", "--latency", "50")
    assert found["bandwidth"] == 1.25e9
    assert found["machines"]["Conv4"] >= 1  # type: ignore[index]


def test_the_benchmark_of_algorithms_gives_each_its_cost() -> None:
    found = run("algorithms", "--rounds", "1", "--steps", "1", "--algorithms", "reptile", "fomaml")
    assert found.keys() == {"reptile", "fomaml"}
    for figures in found.values():
        assert figures["tasks_per_second"] > 0  # type: ignore[index]
        assert figures["memory_mb"] > 50  # type: ignore[index]
    assert found["reptile"]["times_reptile"] == 1  # type: ignore[index]


def test_the_model_of_scaling() -> None:
    net = Network(latency=1e-5, bandwidth=1e9)
    assert efficiency(1, 0.1, 10**6, net) == 1
    # two machines: 2 (10 us + 8 MB / 2 / 1 GB/s) = 8.02 ms on top of 100 ms
    assert efficiency(2, 0.1, 10**6, net) == pytest.approx(0.1 / 0.10802)
    most = most_machines(0.1, 10**5, net)
    assert efficiency(most, 0.1, 10**5, net) > 0.9 >= efficiency(most + 1, 0.1, 10**5, net)
    assert most_machines(1e-6, 10**6, net) == 1


def test_a_child_of_a_benchmark_answers_until_it_fails_and_then_gives_its_reason() -> None:
    child: Child[str, int] = Child("counting", partial, int)
    assert child.ask("3") == 3
    with pytest.raises(ProcessFailed, match="counting failed: ValueError: invalid literal"):
        child.ask("three")
    with pytest.raises(ProcessFailed, match="counting ended with exit code 1"):
        child.ask("3")


def test_a_child_that_fails_before_the_first_question_gives_its_reason() -> None:
    with pytest.raises(ProcessFailed, match="starting failed: ValueError: invalid literal"):
        Child("starting", int, "three").ask("3")  # type: ignore[arg-type]


def test_a_child_that_is_killed_is_noticed() -> None:
    with pytest.raises(ProcessFailed, match="training was killed by SIGKILL"):
        Child("training", partial, signal.raise_signal).ask(signal.SIGKILL)


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(ProcessFailed, match=r"(?s)exit code 3.*no such picture"):
        finish(["sh", "-c", "echo no such picture >&2; exit 3"])
    with pytest.raises(ProcessFailed, match="killed by SIGTERM"):
        finish(["sh", "-c", "kill -TERM $$"])


def test_with_the_same_loop_every_algorithm_that_takes_steps_takes_five() -> None:
    steps = {name: recipe_of(name, same_loop=True).inner.steps for name in NAMES}
    assert steps.pop("protonet") == 1  # one batch of all images, and no step
    assert set(steps.values()) == {5}
