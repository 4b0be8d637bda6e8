from __future__ import annotations

import json
from pathlib import Path

from fewshot_sdk import load
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
