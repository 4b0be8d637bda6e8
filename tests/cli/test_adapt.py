from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fewshot_sdk import adapt, load, load_classifier, save
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import EfficientNet
from fewshot_sdk.storage.repositories import Opened, open_named
from tests.adaptation.test_methods import of_tails
from tests.conftest import Run, draw_folder


def test_adapting_reports_what_it_compared_and_why_it_chose(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    words = ("--support", drawings, "--init", saved, "--verbose", "--json")
    code, out, err = run("adapt", *words, "--output", tmp_path / "m")
    assert code == 0
    said = json.loads(out)
    tried = [(trial["method"], trial["steps"]) for trial in said["comparison"]]
    assert tried == [("prototypes", 0), ("probe", 0), ("reptile", 5), ("reptile", 10), ("reptile", 20)]
    assert (said["method"], said["steps"]) in tried
    assert all(trial["seconds"] > 0 for trial in said["comparison"])
    assert said["calibration"]["reject_rate"] == 0.05
    assert said["reason"] in err.splitlines()
    lines = [line for line in err.splitlines() if not line.startswith("cross-validating: ")]  # on a slow machine
    assert lines[:2] == [said["verdict"]["text"], said["reason"]]
    table = [line.split() for line in lines[2:8]]
    assert [row[0] for row in table] == ["method", "prototypes", "probe", "reptile", "reptile", "reptile"]
    card = (tmp_path / "m" / "README.md").read_text()
    assert "## What was compared" in card
    assert "| AUROC against classes left out |" in card
    assert said["verdict"]["accuracy"].partition(" (")[0] in card.replace("\\", "")


def test_without_verbose_it_says_a_verdict_the_reason_and_what_to_type_next(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    code, _, err = run("adapt", "--support", drawings, "--init", saved, "--steps", 2, "--output", tmp_path / "m")
    assert code == 0
    lines = [line for line in err.splitlines() if not line.startswith("cross-validating: ")]
    assert len(lines) == 3
    assert re.match(r"(good|usable|perhaps usable|poor|no better than guessing): about \d of 10 right", lines[0])
    assert "next: fewshot export" in lines[2]


def test_one_picture_per_class_is_reported_and_takes_the_default(run: Run, saved: Path, tmp_path: Path) -> None:
    one = draw_folder(tmp_path / "one", shots=1)
    code, out, err = run("adapt", "--support", one, "--init", saved, "--output", tmp_path / "m", "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["method"], said["temperature"], said["threshold"], said["comparison"]) == ("reptile", 1, 0, [])
    assert "cannot tell: there is one picture of each class" in err
    assert "cannot cross-validate with one picture a class" in err
    assert "took reptile from glyphs, temperature 1" in err


def test_a_class_is_added_to_a_classifier(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    more = draw_folder(tmp_path / "more", ("dog",), first=4)
    words = ("--support", drawings, "--init", saved, "--method", "prototypes")
    assert run("adapt", *words, "--no-keep-pictures", "--output", tmp_path / "lean")[0] == 0
    assert run("adapt", "--support", drawings, "--init", saved, "--steps", 3, "--output", tmp_path / "m")[0] == 0
    for model, says in (("lean", "added to the sums"), ("m", "adapted again to the old pictures and the new")):
        new = tmp_path / f"{model}2"
        code, out, err = run(
            "adapt", "--extend", tmp_path / model, "--support", more, "--init", saved, "--output", new, "--json"
        )
        assert code == 0
        assert json.loads(out)["labels"] == ["ant", "bee", "cat", "dog"]
        assert says in err
    assert run("export", tmp_path / "lean2", "--output", tmp_path / "lean.onnx")[0] == 0  # checked on noise
    code, _, err = run("adapt", "--extend", tmp_path / "m", "--support", more, "--output", tmp_path / "o")
    assert code == 1
    assert "name its folder with --init" in err


def test_added_pictures_are_examined_first(run: Run, saved: Path, drawings: Path, tmp_path: Path) -> None:
    model = tmp_path / "m"
    assert run("adapt", "--support", drawings, "--init", saved, "--steps", 2, "--output", model)[0] == 0
    (tmp_path / "more").mkdir()
    shutil.copy(drawings / "ant" / "0.png", tmp_path / "more" / "elk_1.png")
    (tmp_path / "more" / "elk_2.png").write_bytes(b"\x89PNG")
    words = ("--extend", model, "--init", saved, "--support", tmp_path / "more", "--label-from", "name")
    code, _, err = run("adapt", *words, "--output", tmp_path / "x")
    assert (code, (tmp_path / "x").exists()) == (1, False)
    assert "elk_2.png" in err
    (tmp_path / "more" / "elk_2.png").unlink()
    (tmp_path / "more" / "elk_1.png").rename(tmp_path / "more" / "ant_1.png")
    code, _, err = run("adapt", *words, "--output", tmp_path / "y")
    assert code == 0
    assert "warning: " in err
    assert "ant_1.png is already among the pictures of ant; remove it" in err
    assert "is already among the pictures" in (tmp_path / "y" / "report.html").read_text()


def test_a_corrected_picture_moves_to_its_class_and_is_told(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    assert run("adapt", "--support", drawings, "--init", saved, "--steps", 2, "--output", tmp_path / "m")[0] == 0
    (tmp_path / "corrected" / "bee").mkdir(parents=True)
    shutil.copy(drawings / "ant" / "0.png", tmp_path / "corrected" / "bee")
    words = ("--extend", tmp_path / "m", "--init", saved, "--support", tmp_path / "corrected")
    code, _, err = run("adapt", *words, "--output", tmp_path / "n")
    assert code == 0
    assert "0.png is already among the pictures of ant and moves to bee; remove it if ant was right" in err
    assert "adapted again to the old pictures and the new; 1 of the old is under another label now" in err
    assert np.bincount(load_classifier(tmp_path / "n").support.targets).tolist() == [3, 5, 4]


def test_one_picture_per_class_becomes_a_classifier_that_can_say_unknown(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    one = draw_folder(tmp_path / "one", shots=1)
    assert run("adapt", "--support", one, "--init", saved, "--output", tmp_path / "m")[0] == 0
    more = draw_folder(tmp_path / "more", shots=3, first=1)
    words = ("--extend", tmp_path / "m", "--init", saved, "--support", more)
    code, out, _ = run("adapt", *words, "--output", tmp_path / "n", "--json")
    assert code == 0
    assert json.loads(out)["calibration"]["reject_rate"] == 0.05


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("x" * 300, "file name too long; name another --output"),
        ("file/x", "file is a file, not a folder; name another"),
    ],
)
def test_an_impossible_output_is_reported_before_the_work(
    run: Run, saved: Path, tmp_path: Path, output: str, says: str
) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run("adapt", "--support", tmp_path / "none", "--init", saved, "--output", tmp_path / output)
    assert code == 1
    assert says in err


def test_steps_are_only_for_reptile(run: Run, drawings: Path, tmp_path: Path) -> None:
    code, _, err = run("adapt", "--support", drawings, "--method", "probe", "--steps", 5, "--output", tmp_path / "m")
    assert code == 2
    assert "--steps is for Reptile; --method probe takes no steps" in err


@pytest.mark.parametrize(("words", "settings"), [((), {}), (("--steps", 3), {"steps": 3})], ids=["auto", "steps"])
def test_python_adapts_as_the_command_does(
    run: Run, saved: Path, drawings: Path, tmp_path: Path, words: tuple[object, ...], settings: dict[str, int]
) -> None:
    assert run("adapt", "--init", saved, "--support", drawings, *words, "--output", tmp_path / "m")[0] == 0
    files = adapt(load(saved), drawings, **settings).files()  # type: ignore[arg-type]
    assert {name: (tmp_path / "m" / name).read_bytes() for name in files} == files


def test_an_initialization_is_opened_once(
    run: Run, saved: Path, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counting(name: str) -> Opened:
        opened.append(name)
        return open_named(name)

    monkeypatch.setattr("fewshot_sdk.artifacts.opening.open_named", counting)
    words = ("--init", saved, "--steps", 1, "--reject-rate", 0, "--delta", "int8")
    assert run("adapt", "--support", drawings, *words, "--output", tmp_path / "m")[0] == 0
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"{p},{p.parent.name}\n" for p in sorted(drawings.glob("*/*.png"))))
    assert run("adapt", "--support", table, *words, "--output", tmp_path / "n")[0] == 0
    assert opened == [str(saved), str(saved)]


def test_the_tail_of_a_network_without_one_is_refused_in_one_sentence(
    run: Run, saved: Path, drawings: Path, tmp_path: Path
) -> None:
    for words in (("--method", "reptile"), ("--steps", 3), ()):
        command = ("adapt", "--support", drawings, "--init", saved, "--trainable", "tail", *words)
        code, out, err = run(*command, "--output", tmp_path / "m")
        assert (code, out) == (1, "")
        assert err.startswith("error: trainable: a conv4 network has no tail, expected all, head, body or norm; ")
        assert len(err.splitlines()) == 1
        assert not (tmp_path / "m").exists()
    code, _, err = run("meta-train", "--preset", "glyphs", "--trainable", "tail", "--output", tmp_path / "m")
    assert code == 1
    assert "a conv4 network has no tail" in err


def test_steps_on_the_tail_of_photographs(run: Run, init: Initialization, drawings: Path, tmp_path: Path) -> None:
    start = save(of_tails(init, "mean"), tmp_path / "photo")
    words = ("--trainable", "tail", "--method", "reptile", "--steps", 1, "--reject-rate", 0)
    code, out, err = run("adapt", "--support", drawings, "--init", start, *words, "--output", tmp_path / "m", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert [trial["rate"] for trial in said["comparison"]] == list(EfficientNet.tail_rates)
    config = load_classifier(tmp_path / "m").config
    assert (config.adaptation.trainable, config.method, config.adaptation.steps) == ("tail", "reptile", 1)
    assert config.adaptation.learning_rate in EfficientNet.tail_rates
    assert run("export", tmp_path / "m", "--output", tmp_path / "m.onnx")[0] == 0
