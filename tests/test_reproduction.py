from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_cli.main import app
from fewshot_sdk import sine_waves, taylor
from fewshot_sdk.figures import Figure, Line, interval
from fewshot_sdk.taylor import COMPARED, Coefficients, theory


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        app([str(word) for word in words])
    return int(stop.value.code or 0)


def test_taylor_writes_data_pictures_and_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(taylor, "KS", (2, 3))
    assert run("reproduce", "taylor", "--output", tmp_path / "taylor") == 0
    said = capsys.readouterr().out
    assert said.startswith("The paper's coefficients hold: ")
    data = json.loads((tmp_path / "taylor" / "data.json").read_text())
    assert (data["holds"], data["seeds"], data["x"]) == (True, [0, 1, 2], [2, 3])
    assert len(data["lines"][0]["values"]) == 3
    assert (tmp_path / "taylor" / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "taylor" / "figure.svg").read_bytes()
    assert data["verdict"] in (tmp_path / "taylor" / "README.md").read_text()
    assert run("reproduce", "taylor", "--output", tmp_path / "taylor") == 1
    assert "already holds something" in capsys.readouterr().err


def test_a_coefficient_off_by_two_percent_is_said_not_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(k: int, seed: int) -> dict[str, Coefficients]:
        return {a: Coefficients(c0=theory(a, k)[0], c1=1.02 * theory(a, k)[1], rest=0) for a in COMPARED}

    monkeypatch.setattr(taylor, "measured", off)
    *_, figure = taylor.taylor("how")
    assert isinstance(figure, Figure)
    assert not figure.holds
    assert "do NOT hold" in figure.verdict


def test_sine_compares_errors_over_three_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sine_waves.META_STEPS, "small", 3)
    monkeypatch.setitem(sine_waves.WAVES, "small", 2)
    assert run("reproduce", "sine", "--output", tmp_path / "sine", "--json") == 0
    figure = Figure.from_json((tmp_path / "sine" / "data.json").read_bytes())
    assert [line.name for line in figure.lines] == ["not meta-trained", "Reptile", "MAML"]
    assert all(len(line.values) == 3 for line in figure.lines)
    assert figure.holds == ("does NOT" not in figure.verdict)


def test_an_unknown_figure_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reproduce", "tailor", "--output", tmp_path / "x") == 2
    assert "'taylor', 'sine'" in capsys.readouterr().err


def test_the_interval_is_students_over_the_seeds() -> None:
    mean, half = Line(name="a", values=((1.0,), (2.0,), (3.0,))).at(0)
    assert mean == 2
    assert half == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert interval([1.0, 2.0])[1] == pytest.approx(12.706 / 2, rel=1e-3)
    assert interval([-1.0, 1.0] * 15)[1] == pytest.approx(2.045 * (30 / 29 / 30) ** 0.5, rel=1e-3)
    assert Line(name="b", values=((1.5,),), theory=True).at(0) == (1.5, 0)
