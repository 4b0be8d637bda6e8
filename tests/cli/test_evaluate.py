from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewshot_cli.commands import evaluate
from fewshot_sdk import load
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.meta.training import meta_train
from fewshot_sdk.storage.locks import alone_at
from fewshot_sdk.storage.replacement import replace_folder
from tests.conftest import Run


def test_baselines_are_measured_instead_of_the_initialization_and_recorded_beside_it(run: Run, saved: Path) -> None:
    words = ("evaluate", saved, "--ways", 3, "--tasks", 3, "--seed", 5)
    assert run(*words, "--record")[0] == 0
    code, out, _ = run(*words, "--baseline", "all", "--record", "--json")
    assert (code, [row["baseline"] for row in json.loads(out)]) == (0, ["prototypes", "probe", "random"])
    code, out, _ = run(*words, "--baseline", "random")
    assert (code, "by random initialization, same steps" in out) == (0, True)
    assert [e.baseline for e in load(saved).evaluations] == [None, "probe", "prototypes", "random"]
    assert run("verify", saved)[0] == 0


def test_all_modes_in_one_run_are_a_list(run: Run, saved: Path) -> None:
    code, out, _ = run("evaluate", saved, "--tasks", 3, "--mode", "all", "--json")
    assert code == 0
    together = json.loads(out)
    assert [said["mode"] for said in together] == ["transductive", "inductive", "frozen"]
    code, out, _ = run("evaluate", saved, "--tasks", 3, "--mode", "frozen", "--json")
    assert json.loads(out) == together[2]
    assert json.loads(run("evaluate", saved, "--tasks", 3, "--transductive", "--json")[1]) == together[0]
    assert json.loads(run("evaluate", saved, "--tasks", 3, "--json")[1]) == together[1]


def test_a_result_can_be_recorded_on_the_card(run: Run, saved: Path) -> None:
    weights = (saved / "model.safetensors").read_bytes()
    assert run("evaluate", saved, "--tasks", 2, "--shots", 3, "--record")[0] == 0
    assert "| glyphs 5-way 3-shot | inductive |" in (saved / "README.md").read_text()
    assert (saved / "model.safetensors").read_bytes() == weights
    assert run("evaluate", saved, "--tasks", 2)[0] == 0  # and it still loads


def meanwhile(monkeypatch: pytest.MonkeyPatch, event: Callable[[], object]) -> None:
    """Lets something happen between the measurement and its record."""
    real = evaluate._record

    def record(*words: Any) -> None:
        monkeypatch.undo()
        event()
        real(*words)

    monkeypatch.setattr(evaluate, "_record", record)


def test_a_result_that_another_evaluation_has_recorded_meanwhile_is_kept(
    run: Run, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("evaluate", saved, "--tasks", 2, "--record", "--shots")
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda: run(*words, 1))
        assert run(*words, 2)[0] == 0
    assert [e.shots for e in load(saved).evaluations] == [1, 2]


def test_a_result_is_not_recorded_for_other_weights(
    run: Run, saved: Path, recipe: Recipe, sampler: TaskSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(meta_train(recipe, sampler)).initialization
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda: replace_folder(saved, other.files()))
        code, _, err = run("evaluate", saved, "--tasks", 2, "--record")
    assert code == 1
    assert "has other weights than when it was measured" in err
    assert load(saved).evaluations == ()


def test_evaluations_record_one_after_the_other(run: Run, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "PATIENCE", 0.0)
    with alone_at(saved, saved.resolve()):
        assert run("evaluate", saved, "--tasks", 2, "--record")[0] == 1
    assert run("evaluate", saved, "--tasks", 2, "--record")[0] == 0
