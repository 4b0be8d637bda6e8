from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_cli.main import app
from fewshot_sdk.intervals import interval_of_few
from fewshot_sdk.paper import sine as sine_waves
from fewshot_sdk.paper import taylor
from fewshot_sdk.paper.experiment import Numbers
from fewshot_sdk.paper.figures import Figure, Line, Scale
from fewshot_sdk.paper.taylor import COMPARED, Coefficients, theory
from fewshot_sdk.storage.locks import alone_at


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        app([str(word) for word in words])
    return int(stop.value.code or 0)


def test_taylor_writes_data_pictures_and_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(taylor, "KS", (2, 3))
    monkeypatch.chdir(tmp_path)
    assert run("reproduce", "taylor") == 0  # the output is named after the figure by default
    said = capsys.readouterr().out
    assert said.startswith("The paper's coefficients hold: ")
    data = json.loads((tmp_path / "taylor" / "data.json").read_text())
    assert (data["holds"], data["seeds"], data["x"]) == (True, [0, 1, 2], [2, 3])
    line = data["lines"][0]
    mean, half = interval_of_few([values[1] for values in line["values"]])
    assert (len(line["values"]), line["mean"][1], line["ci95"][1]) == (3, mean, half)
    assert (tmp_path / "taylor" / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "taylor" / "figure.svg").read_bytes()
    assert data["verdict"] in (tmp_path / "taylor" / "README.md").read_text()
    assert run("reproduce", "taylor", "--output", tmp_path / "taylor") == 1
    assert "already holds something" in capsys.readouterr().err


def test_a_coefficient_off_by_two_percent_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(k: int, seed: int) -> dict[str, Coefficients]:
        return {a: Coefficients(c0=theory(a, k)[0], c1=1.02 * theory(a, k)[1], rest=0) for a in COMPARED}

    monkeypatch.setattr(taylor, "measured", off)
    experiment = taylor.taylor("how")
    figure = experiment.figure({name: trial() for name, trial in experiment.trials.items()})
    assert not figure.holds
    assert "do NOT hold" in figure.verdict


def test_sine_compares_errors_over_three_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sine_waves.META_STEPS, "small", 3)
    monkeypatch.setitem(sine_waves.WAVES, "small", 2)
    assert run("reproduce", "sine", "--workers", 1, "--output", tmp_path / "sine", "--json") == 0
    figure = Figure.from_json((tmp_path / "sine" / "data.json").read_bytes())
    assert [line.name for line in figure.lines] == ["not meta-trained", "Reptile", "MAML"]
    assert all(len(line.values) == 3 for line in figure.lines)
    assert figure.holds == ("does NOT" not in figure.verdict)


def test_what_was_measured_is_kept_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sine_waves.META_STEPS, "small", 3)
    monkeypatch.setitem(sine_waves.WAVES, "small", 2)
    plain, made = sine_waves.measured, list[str]()

    def noted(name: str, scale: Scale, seed: int) -> Numbers:
        made.append(f"{name}, seed {seed}")
        return plain(name, scale, seed)

    def interrupted(name: str, scale: Scale, seed: int) -> Numbers:
        if len(made) == 4:
            raise KeyboardInterrupt
        return noted(name, scale, seed)

    words = ("reproduce", "sine", "--workers", 1, "--output")
    assert run(*words, tmp_path / "whole") == 0
    monkeypatch.setattr(sine_waves, "measured", interrupted)
    assert run(*words, tmp_path / "figure") == 130
    assert "figure.checkpoint, --resume continues" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if "figure" in path.name] == ["figure.checkpoint"]
    assert run(*words, tmp_path / "figure") == 1
    assert "continue it with --resume" in capsys.readouterr().err
    assert run(*words, tmp_path / "figure", "--resume", "--seeds", 4) == 1
    assert "that was `fewshot reproduce sine --scale small` with" in capsys.readouterr().err
    done, made[:] = set(made), []
    monkeypatch.setattr(sine_waves, "measured", noted)
    assert run(*words, tmp_path / "figure", "--resume") == 0
    assert len(made) == 5  # of nine
    assert not done & set(made)
    whole, again = ((tmp_path / name / "data.json").read_bytes() for name in ("whole", "figure"))
    assert whole == again
    assert not (tmp_path / "figure.checkpoint").exists()
    assert run(*words, tmp_path / "other", "--resume") == 1
    assert "to continue from; leave --resume out" in capsys.readouterr().err


def test_workers_share_what_is_measured_to_the_same_numbers(tmp_path: Path) -> None:
    for workers in (1, 2):
        assert run("reproduce", "taylor", "--workers", workers, "--output", tmp_path / str(workers)) == 0
    alone, shared = ((tmp_path / name / "data.json").read_bytes() for name in ("1", "2"))
    assert alone == shared


def test_a_folder_that_is_not_a_checkpoint_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("reproduce", "taylor", "--workers", 1, "--output", tmp_path / "x", "--resume")
    (tmp_path / "x.checkpoint").mkdir()
    assert run(*words) == 1
    assert "holds no run.json" in capsys.readouterr().err
    (tmp_path / "x.checkpoint" / "run.json").write_text("{")
    assert run(*words) == 1
    assert "error: Begun: " in capsys.readouterr().err


def test_an_unknown_figure_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reproduce", "tailor", "--output", tmp_path / "x") == 2
    assert "'taylor', 'sine'" in capsys.readouterr().err


def test_the_interval_is_students_over_the_seeds() -> None:
    mean, half = Line(name="a", values=((1.0,), (2.0,), (3.0,))).at(0)
    assert mean == 2
    assert half == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert Line(name="b", values=((1.5,),), theory=True).at(0) == (1.5, 0)


@pytest.mark.parametrize("words", [[], ["--resume"]])
def test_a_second_run_at_the_same_output_is_refused_at_once(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fewshot_cli.commands.reproduce.check_free", lambda _: pytest.fail("it went on"))
    with alone_at(tmp_path / "run", tmp_path / "run.checkpoint"):
        assert run("reproduce", "taylor", *words, "--output", tmp_path / "run") == 1
    assert capsys.readouterr().err.startswith(f"error: another process is making {tmp_path / 'run'} at this moment")
    assert not list(tmp_path.iterdir())
