"""Every command of CONTRIBUTING.md and benchmarks/README.md runs, at a toy size; times are not checked."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import photos
from benchmarks.adapt_command import photographs
from benchmarks.algorithms import NAMES, recipe_of
from benchmarks.meta_training import start_of, stream
from benchmarks.peers import OuterStep, eager, one_by_one, together, together_compiled
from benchmarks.processes import Child, ProcessFailed, finish
from benchmarks.scaling import Network, efficiency, most_machines
from benchmarks.serving_clients import check
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import Conv4
from fewshot_sdk.errors import MissingExtra, SupportError
from tests.conftest import REPOSITORY

Found = dict[str, Any]
# One thread, here and below: several threads spin while they wait, and take minutes on a busy machine.
TOYS = {
    "adapt_command": "--rounds 1 --photos 0 --side 400",
    "adaptation": "--rounds 1 --tasks 2 --workers 1 --threads 1",
    "algorithms": "--rounds 1 --steps 1 --algorithms reptile protonet",
    "deltas": "--users 40 --adaptations 2 --precision float32",
    "feature_scaling": "--shots 2 --splits 1",
    "honest_choice": "--tasks 1 --ways 3 --shots 2 --data glyphs",
    "inference": "--rounds 1 --threads 1 --side 40 --no-compile",
    "inspection": "--shots 2 --splits 1 --bad 1",
    "learner": "--rounds 1 --steps 2",
    "meta_training": "--rounds 1 --steps 1 --workers 1 --threads 1",
    "own_data": "--pictures 8 --per-class 4",
    "photos": "--shots 2 --splits 2 --queries 2",
    "scaling": "--seconds 0.01 --workers 1 --bandwidth 10 --latency 50",
    "serving": "--client plain --requests 1 --connections 3 --seconds 0.5 --side 30",
}
SLOW = (  # over 3 CPU seconds each, or similar to a quick one
    "adapt_command",
    "algorithms --algorithms reptile protonet --rounds 1 --steps",
    "feature_scaling",
    "honest_choice",
    "inference --no-compile --preset mini-imagenet-residual",
    "meta_training",
    "photos",
)


def options(words: str) -> dict[str, list[str]]:
    """The options of a command, each with its values."""
    found: dict[str, list[str]] = {}
    values: list[str] = []  # of no option: the names of folders
    for word in shlex.split(words):
        if word.startswith("--"):
            values = found.setdefault(word, [])
        else:
            values.append(word)
    return found


def commands() -> list[tuple[str, str]]:
    """The module and options of each command on the pages, at toy size, without duplicates."""
    pages = [REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "benchmarks" / "README.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found: dict[tuple[str, str], None] = {}
    for module, words in re.findall(r"`python -m benchmarks\.(\w+)([^`]*)`", text):
        small = options(words) | options(TOYS[module])
        found[module, shlex.join(word for name in sorted(small) for word in (name, *small[name]))] = None
    return list(found)


def agree(found: Found) -> None:
    assert found["queries_agreed"] >= 0.8


def tells_good_from_bad(found: Found) -> None:
    assert all(0 <= area <= 1 for areas in found.values() for area in areas)


def has_ratios(found: Found) -> None:
    """The benchmark itself checks that all loops end in the same weights."""
    if "ours" in found:
        assert all(0 < each["ratio_min"] <= each["ratio"] <= each["ratio_max"] for each in found.values())
        assert found["ours"]["ratio"] == 1
        return
    assert found["ratio_min"] <= found["ratio"] <= found["ratio_max"]
    assert {"tasks_per_second", "share_of_peak", "precision", "float32", "bfloat16"} < found.keys()


def compares_promises(found: Found) -> None:
    assert 0.3 < found["accuracy_auto"] <= 1  # chance is a third
    assert 0 <= found["ece"] <= 1
    assert {"auroc", "auroc_promised", "unknown_rejected", "unknown_rejected_promised"} < found.keys()


def measures_both_commands(found: Found) -> None:
    for case in ("auto", "reptile"):
        assert found[f"{case}_processor_seconds"] > 0
        assert found[f"{case}_megabytes"] > 50


def compares_exports(found: Found) -> None:
    for name in ("fp32", "int8"):
        assert {f"{name}_ms_batch1_threads1", f"{name}_ratio_batch64_threads1"} < found.keys()
    assert found["predict_megabytes"] < 150  # without PyTorch


def keeps_answers_and_saves_memory(found: Found) -> None:
    assert found["agreed"] == 1
    assert found["held_mb"] - found["base_mb"] < 40 * 4 * found["delta_kb"] / 1000


def measures_and_models(found: Found) -> None:
    assert found["tasks_per_second"].keys() == found["apart"].keys() == found["busy"].keys() == {"1"}
    assert min(*found["tasks_per_second"].values(), *found["apart"].values()) > 0
    assert 0 < found["busy"]["1"] < 1.2  # one worker uses one core
    assert found["model"]["bandwidth"] == 1.25e9
    assert found["model"]["machines"]["Conv4"] >= 1


def compares_on_the_same_splits(found: list[dict[str, Any]]) -> None:
    assert [row["method"] for row in found] == list(photos.NAMES)
    for row in found:
        assert len(row["accuracies"]) == 2
        assert row["lead"] == pytest.approx(found[0]["accuracy"] - row["accuracy"])
        assert min(row["seconds"], row["model_megabytes"], row["peak_megabytes"]) > 0
    assert sum(found[0]["chosen"].values()) == 2


def gives_each_its_cost(found: Found) -> None:
    assert found.keys() == {"reptile", "protonet"}
    assert found["reptile"]["times_reptile"] == 1
    assert all(figures["memory_mb"] > 50 for figures in found.values())


def opens_twice(found: Found) -> None:
    assert found["pictures"] == 8
    assert min(found["first"]["megabytes"], found["again"]["seconds"]) > 0


def scales_every_table(found: list[dict[str, Any]]) -> None:
    assert [row["features"] for row in found] == ["iris", "wine", "breast_cancer", "digits"]
    assert all(0 < row[way] <= 100 for row in found for way in ("as they are", "scaled alike", "each column", "adapt"))


def answers_all_to_the_last(found: Found) -> None:
    assert found["overhead_ms"].keys() == {"binary tensor", "JSON", "PNG file"}
    load = found["load"]
    assert load["answered"] > 0
    assert load["under_way_at_sigterm"] == load["answered_after_sigterm"] == 3
    assert (load["errors"], load["broken_after_sigterm"], load["log_lines"]) == ({}, {}, 0)


LAWS: dict[str, Callable[[Any], None]] = {
    "adapt_command": measures_both_commands,
    "adaptation": agree,
    "algorithms": gives_each_its_cost,
    "deltas": keeps_answers_and_saves_memory,
    "feature_scaling": scales_every_table,
    "honest_choice": compares_promises,
    "inference": compares_exports,
    "inspection": tells_good_from_bad,
    "learner": agree,
    "meta_training": has_ratios,
    "own_data": opens_twice,
    "photos": compares_on_the_same_splits,
    "scaling": measures_and_models,
    "serving": answers_all_to_the_last,
}


def once(function: Callable[..., object]) -> Callable[..., object]:
    """The function, computed only once, so that the same figures can be printed twice."""
    found: list[object] = []

    def call(*arguments: object) -> object:
        if not found:
            found.append(function(*arguments))
        return found[0]

    return call


@pytest.mark.parametrize(
    ("module", "words"),
    [
        pytest.param(
            *command, id=(name := " ".join(command)), marks=[pytest.mark.slow] if name.startswith(SLOW) else []
        )
        for command in commands()
    ],
)
def test_a_command_of_the_pages_gives_its_figures(
    module: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(photographs(tmp_path / "photos", 3, 12, 60))] if module in ("inspection", "photos") else []
    benchmark = importlib.import_module(f"benchmarks.{module}")
    for name in {"measure", "against_peers", "cold"} & vars(benchmark).keys():
        monkeypatch.setattr(benchmark, name, once(getattr(benchmark, name)))
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")  # a benchmark sets it where it is not
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for more in ([], ["--json"]):
            monkeypatch.setattr("sys.argv", [module, *folders, *shlex.split(words), *more])
            benchmark.main()
    finally:
        torch.set_num_threads(threads)
    *lines, figures = capsys.readouterr().out.splitlines()
    assert lines
    LAWS[module](json.loads(figures))


def test_the_pages_name_every_benchmark() -> None:
    scripts = {path.stem for path in (REPOSITORY / "benchmarks").glob("*.py") if "def main(" in path.read_text()}
    assert scripts == {module for module, _ in commands()} == TOYS.keys() == LAWS.keys()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    "peer",
    [
        together,
        pytest.param(one_by_one, marks=pytest.mark.slow),
        pytest.param(together_compiled, marks=pytest.mark.slow),
    ],
)
def test_a_peer_takes_the_outer_steps_of_the_usual_loop(peer: Callable[..., OuterStep]) -> None:
    recipe = preset("omniglot-5way")
    recipe = recipe.replace(
        inner=recipe.inner.replace(precision="float32", steps=2, batch_size=5),
        meta=recipe.meta.replace(tasks_per_step=2, meta_steps=10),
        backbone=Conv4(filters=8),
    )
    tasks, dtype = stream(recipe), torch.float64
    start = start_of(recipe, tasks).state
    exact = replace(
        start,
        params={name: tensor.to(dtype) for name, tensor in start.params.items()},
        second_moments={name: tensor.to(dtype) for name, tensor in start.second_moments.items()},
    )
    found, expected = (made(recipe, dtype)(recipe, tasks, exact, 3) for made in (peer, eager))
    assert found.updates == expected.updates
    for part in ("params", "second_moments"):
        for name, tensor in getattr(expected, part).items():
            torch.testing.assert_close(getattr(found, part)[name], tensor, rtol=1e-6, atol=1e-8)


def test_the_model_of_scaling() -> None:
    net = Network(latency=1e-5, bandwidth=1e9)
    assert efficiency(1, 0.1, 10**6, net) == 1
    # two machines: (5 tasks and their sum) (10 us + 8 MB / 2 / 1 GB/s) = 24.06 ms on top of 100 ms
    assert efficiency(2, 0.1, 10**6, net) == pytest.approx(0.1 / 0.12406)
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


def test_a_client_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kserve", None)
    with pytest.raises(MissingExtra, match="--client kserve needs that library: pip install 'kserve'"):
        check("kserve")


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(ProcessFailed, match=r"(?s)exit code 3.*no such picture"):
        finish(["sh", "-c", "echo no such picture >&2; exit 3"])
    with pytest.raises(ProcessFailed, match="killed by SIGTERM"):
        finish(["sh", "-c", "kill -TERM $$"])


def test_with_the_same_loop_every_algorithm_that_takes_steps_takes_five() -> None:
    steps = {name: recipe_of(name, same_loop=True).inner.steps for name in NAMES}
    assert steps.pop("protonet") == 1  # one batch of all images, and no step
    assert set(steps.values()) == {5}


def test_a_split_has_its_shots_of_each_class_and_nothing_twice() -> None:
    labels = ["a"] * 7 + ["b"] * 4 + ["c"] * 20
    known, others = photos.split(labels, 3, 5, (0, 1))
    assert Counter(labels[i] for i in known) == {"a": 3, "b": 3, "c": 3}
    assert Counter(labels[i] for i in others) == {"a": 4, "b": 1, "c": 5}
    assert len({*known, *others}) == len(known) + len(others)
    assert photos.split(labels, 3, 5, (0, 1)) == (known, others) != photos.split(labels, 3, 5, (0, 2))


def test_classes_with_too_few_photographs_are_left_out_and_named(tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 3, 9, 40)
    next((source / "class1").iterdir()).unlink()
    (tmp_path / "out").mkdir()
    files, small = photos.pictures_of(source, tmp_path / "out", 2)
    assert small == ["class1"]
    assert Counter(label for _, label in files) == {"class0": 3, "class2": 3}
    with pytest.raises(SupportError, match=r"two classes with more than 3 pictures; take fewer --shots"):
        photos.pictures_of(source, tmp_path / "out", 3)


def test_the_table_of_photographs_is_markdown() -> None:
    row = photos.Row(
        pictures="p", method=photos.NAMES[1], accuracy=50, accuracy_error=4, lead=12.34, lead_error=3, seconds=0.25,
        model_megabytes=1.5, peak_megabytes=300, chosen={}, accuracies=[50.0],
    )  # fmt: skip
    assert (
        photos.table([row]).splitlines()[2] == f"| p | {photos.NAMES[1]} | 50.0 ± 4.0 | +12.3 ± 3.0 | 0.2 | 1.5 | 300 |"
    )
