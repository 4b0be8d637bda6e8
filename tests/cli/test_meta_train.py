"""`fewshot meta-train`; the function it calls is tested in tests/meta/test_run.py."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from fewshot_cli.commands.meta_train import MetaTrainOptions
from fewshot_cli.main import app
from fewshot_cli.training import TrainingOptions
from fewshot_sdk import adapt, export_onnx, load
from fewshot_sdk.artifacts.initialization import save_checkpoint
from fewshot_sdk.artifacts.opening import load_any
from fewshot_sdk.config import presets
from fewshot_sdk.data import glyphs, opening
from fewshot_sdk.meta import curve, trackers
from fewshot_sdk.meta.pretraining import pretrain
from fewshot_sdk.storage.locks import alone_at
from tests.conftest import REPOSITORY, Run, draw_folder, tiny_recipe

MODELS = sorted(path.name for path in (REPOSITORY / "models").iterdir() if (path / "config.json").exists())


@pytest.fixture
def _tiny_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "glyphs", tiny_recipe())
    monkeypatch.setattr(glyphs, "GLYPH_CLASSES", 12)
    monkeypatch.setattr(curve, "TASKS", 3)


def parsed(command: str) -> MetaTrainOptions:
    """The options of a recorded command, as typer parses them."""
    known = get_command(app).commands["meta-train"]  # type: ignore[attr-defined]
    context = known.make_context("meta-train", [*shlex.split(command)[2:], "--output", "init"])
    return MetaTrainOptions(**context.params)


@pytest.mark.parametrize("name", MODELS)
def test_the_command_of_a_bundled_initialization_gives_its_recipe(name: str) -> None:
    init = load_any(name)
    if not init.provenance.meta_steps_done:
        assert init.recipe == presets.preset(name)  # published weights, converted
        return
    if not init.provenance.command.startswith("fewshot "):
        assert init.recipe == presets.preset(name)  # by a script in examples/
        return
    given = parsed(init.provenance.command)
    assert given.command == init.provenance.command
    assert given.recipe() == init.recipe


def test_a_command_records_the_options_that_determine_the_result_in_a_fixed_order() -> None:
    command = (
        "fewshot meta-train --preset glyphs --backbone timm:x --algorithm maml --trainable head --tail-shots 2 "
        "--replacement --pretrain 3 --outer adam --step-size 0.2 --tasks-per-step 1 --meta-steps 4 --data 'my pic' "
        "--split 0.8/0.2 --split-seed 3 --skip-small --seed 5"
    )
    given = parsed(f"{command} --workers 2 --resume --device cpu --checkpoint-every 1 --evaluate-every 0 --root .")
    assert given.command == command
    beside = {"recipe_file", "changes", "init"}  # a command with one of the first two records no other options
    assert all(getattr(given, f.name) is not None for f in fields(TrainingOptions) if f.name not in beside)


@pytest.mark.usefixtures("_tiny_glyphs")
def test_the_recorded_command_trains_the_same_again(run: Run, tmp_path: Path) -> None:
    words = ["--algorithm", "anil", "--tail-shots", 2, "--outer", "momentum", "--step-size", 0.2, "--seed", 4]
    code, out, err = run("meta-train", "--preset", "glyphs", *words, "--output", tmp_path / "one")
    assert (code, out) == (0, "")
    assert err.splitlines()[0] == "reading glyphs"
    assert err.splitlines()[-1] == (
        f"wrote {tmp_path / 'one'}; next: fewshot adapt --init {tmp_path / 'one'} --support DIR --output MODEL"
    )
    one = load(tmp_path / "one")
    meta = one.recipe.meta
    assert (meta.algorithm, meta.tail_shots, meta.optimizer, meta.step_size) == ("anil", 2, "momentum", 0.2)
    assert one.provenance.command == (
        "fewshot meta-train --preset glyphs --algorithm anil --tail-shots 2 --outer momentum --step-size 0.2 "
        "--meta-steps 2 --seed 4"
    )
    assert run(*shlex.split(one.provenance.command)[1:], "--output", tmp_path / "two")[0] == 0
    two = load(tmp_path / "two")
    assert (two.sha256, two.provenance.command) == (one.sha256, one.provenance.command)


@pytest.mark.usefixtures("_tiny_glyphs")
def test_training_writes_metrics_and_a_curve(run: Run, tmp_path: Path) -> None:
    words = ["meta-train", "--preset", "glyphs", "--meta-steps", 5, "--evaluate-every", 2]
    assert run(*words, "--output", tmp_path / "init")[0] == 0
    found = [json.loads(line) for line in (tmp_path / "init" / "metrics.jsonl").read_text().splitlines()]
    assert [metric["meta_steps"] for metric in found] == [1, 2, 3, 4, 5]
    assert all(0 < metric["loss"] < 3 for metric in found)
    points = [metric for metric in found if "accuracy" in metric]
    assert [metric["meta_steps"] for metric in points] == [2, 4, 5]
    assert all(100 < metric["memory_mb"] < 10_000 for metric in points)  # PyTorch alone takes the first

    assert run("evaluate", tmp_path / "init", "--tasks", 2, "--record")[0] == 0
    kept = load(tmp_path / "init")
    assert (len(kept.metrics), len(kept.evaluations)) == (3, 1)
    assert (tmp_path / "init" / "curve.png").exists()


@pytest.mark.usefixtures("_tiny_glyphs")
def test_it_pretrains_alone_for_a_baseline(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "glyphs", tiny_recipe(head="dense"))
    words = ["meta-train", "--preset", "glyphs", "--pretrain", 2, "--meta-steps", 0, "--output"]
    code, _, err = run(*words, tmp_path / "alone")
    assert code == 0
    assert "pre-training for 2 epochs; the time left is known after the first\npre-training: 1 of 2, loss " in err
    init = load(tmp_path / "alone")
    assert (init.recipe.head, init.recipe.meta.meta_steps, init.provenance.meta_steps_done) == ("zero", 0, 0)
    assert init.provenance.command == "fewshot meta-train --preset glyphs --pretrain 2 --meta-steps 0 --seed 0"
    card = (tmp_path / "alone" / "README.md").read_text()
    assert "A supervised initialization: class means or a linear probe" in card
    assert "Pre-training alone, no outer step, in " in card
    assert "| supervised pre-training | 2 epochs, batch 128, rate 0.1 |" in card
    assert "inner loop |" not in card
    data = opening.open_dataset(init.recipe.data, init.recipe.preprocessing, "train")
    *_, last = pretrain(init.recipe, data, seed=0, threads=1)
    assert torch.equal(init.state.params["conv2.weight"], last.tensors["conv2.weight"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone"]
    save_checkpoint(init, tmp_path / "other.checkpoint")
    code, _, err = run(*words, tmp_path / "other", "--resume", "--seed", "4")
    assert (code, "seed was 0, now 4" in err) == (1, True)
    classifier = adapt(init, draw_folder(tmp_path / "drawings"), method="probe")
    assert export_onnx(classifier, tmp_path / "m.onnx").metadata.parity.max_difference < 1e-4


def test_it_trains_on_numbers(run: Run, tmp_path: Path) -> None:
    words = ["meta-train", "--preset", "sine", "--meta-steps", 2, "--algorithm", "maml", "--output"]
    code, out, err = run(*words, tmp_path / "init")
    assert (code, out, len(err.splitlines())) == (0, "", 1)
    assert "--support points.csv" in err
    assert load_any(tmp_path / "init").provenance.command == (
        "fewshot meta-train --preset sine --algorithm maml --meta-steps 2 --seed 0"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["glyphs", "--meta-steps", "0"], "it takes --pretrain EPOCHS"),
        (["glyphs", "--meta-steps", "0", "--pretrain", "0"], "it takes --pretrain EPOCHS"),
        (["glyphs", "--meta-steps", "0", "--pretrain", "2", "--algorithm", "maml"], "and no --algorithm"),
        (["glyphs", "--meta-steps", "0", "--pretrain", "2", "--replacement"], "--replacement, --outer"),
        (["glyphs", "--meta-steps", "0", "--pretrain", "2", "--step-size", "0.5"], "--step-size or --tasks-per-step"),
        (["glyphs", "--algorithm", "maml", "--replacement"], "changes nothing here: each mini-batch is all"),
        (["glyphs", "--keep-best", "--evaluate-every", "0"], "keep_best: it chooses by the accuracy on held-out"),
        (["sine", "--keep-best"], "but sine is for numbers, which have none; leave it out"),
        (["glyphs", "--resume"], "init.checkpoint: no such file or directory; expected a checkpoint"),
        (["sine", "--evaluate-every", "0", "--meta-steps", "0"], "meta_steps: expected 1 or more, found 0"),
        (["sine", "--pretrain", "2"], "sine is for numbers: leave out --root"),
        (["sine", "--split", "0.5/0.5"], "sine is for numbers: leave out --root"),
        (["sine", "--split-seed", "0"], "sine is for numbers: leave out --root"),
        (["sine", "--skip-small"], "sine is for numbers: leave out --root"),
        (["sine", "--device", "cuda"], "sine is for numbers: leave out --root"),
        (["sine", "--backbone", "timm:none"], "sine is for numbers: leave out --root"),
    ],
)
def test_impossible_options_are_reported_before_anything_is_read(
    run: Run, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "open_dataset", lambda *_: pytest.fail("it went on"))
    code, _, err = run("meta-train", "--preset", *words, "--output", tmp_path / "init")
    assert code == 1
    assert said in err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_tiny_glyphs")
def test_the_best_is_kept_and_told(run: Run, tmp_path: Path) -> None:
    words = ["meta-train", "--preset", "glyphs", "--meta-steps", 4, "--evaluate-every", 1, "--keep-best"]
    code, out, err = run(*words, "--output", tmp_path / "init")
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert lines[0] == (
        "warning: glyphs has no validation classes, so --keep-best chooses by test classes; the accuracy of the chosen "
        "initialization on them is too high to report"
    )
    best = max(load(tmp_path / "init").metrics, key=lambda point: point.accuracy)
    assert lines[-2] == (
        f"best test accuracy: {100 * best.accuracy:.1f} ± {100 * best.ci95:.1f} % (5-way) at step {best.meta_steps}, "
        f"kept in {tmp_path / 'init-best'}"
    )
    assert load(tmp_path / "init-best").provenance.meta_steps_done == best.meta_steps
    assert "--keep-best" not in load(tmp_path / "init").provenance.command
    drawings = draw_folder(tmp_path / "drawings")
    words = ["--init", tmp_path / "init-best", "--support", drawings, "--output", tmp_path / "model"]
    assert run("adapt", *words)[0] == 0


@pytest.mark.usefixtures("_tiny_glyphs")
def test_as_json_stdout_has_every_event_and_stderr_nothing(run: Run, tmp_path: Path) -> None:
    words = ["meta-train", "--preset", "glyphs", "--meta-steps", 4, "--evaluate-every", 2, "--pretrain", 1, "--json"]
    code, out, err = run(*words, "--output", tmp_path / "init")
    assert (code, err) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    kinds = [line["event"] for line in found if line["event"] != "step"]
    assert kinds == ["reading", "began", "epoch", "began", "point", "point", "done"]
    assert found[-1] == {"event": "done", "step": 4, "total": 4, "output": str(tmp_path / "init")}
    told = [(line["step"], line["accuracy"]) for line in found if line["event"] == "point"]
    assert told == [(point.meta_steps, point.accuracy) for point in load(tmp_path / "init").metrics]


def test_a_reader_of_the_json_stream_that_goes_away_loses_no_training(tmp_path: Path) -> None:
    words = ["meta-train", "--preset", "sine", "--meta-steps", "2", "--json", "--output", "init"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}
    ours, its = os.pipe()
    os.close(ours)
    command = [sys.executable, "-P", "-m", "fewshot_cli.main", *words]
    done = subprocess.run(
        command, stdout=its, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment, check=False
    )
    os.close(its)
    assert (done.returncode, load_any(tmp_path / "init").provenance.meta_steps_done) == (0, 2)
    assert done.stderr == "warning: standard output takes no more of the JSON stream; training continues without it\n"


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    monkeypatch.setattr(opening, "open_dataset", lambda *_: pytest.fail("it went on"))
    code, _, err = run("meta-train", "--preset", "glyphs", "--tracker", "trackio", "--output", tmp_path / "init")
    assert code == 1
    assert err == ("error: the tracker trackio is not installed; pip install 'fewshot-sdk[trackio]', or leave it out\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--algorithm", "mmaml"], "'reptile', 'fomaml', 'maml', 'anil', 'boil', 'meta-sgd'"),
        (["--outer", "lion"], "'momentum', 'nesterov'"),
        (["--step-size", "0"], "with 0 nothing is learned"),
        (["--tracker", "mlflow"], "'tensorboard', 'trackio', 'wandb'"),
        (["--backbone", "resnet"], "--backbone takes timm:NAME"),
        (["--meta-steps", "-1"], "greater than or equal to 0"),
    ],
)
def test_wrong_usage_is_exit_2(run: Run, words: list[str], said: str, tmp_path: Path) -> None:
    code, _, err = run("meta-train", "--preset", "glyphs", "--output", tmp_path / "init", *words)
    assert (code, said in err) == (2, True), err


@pytest.mark.parametrize(
    "words", [["glyphs"], ["glyphs", "--resume"], ["sine"], ["glyphs", "--pretrain", 2, "--meta-steps", 0]]
)
def test_a_second_training_at_the_same_output_is_refused_at_once(
    run: Run, words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_sdk.meta.run.check_free", lambda _: pytest.fail("it went on"))
    with alone_at(tmp_path / "run", tmp_path / "run.checkpoint"):
        code, _, err = run("meta-train", "--preset", *words, "--output", tmp_path / "run")
    assert code == 1
    assert err == (
        f"error: another process is making {tmp_path / 'run'} at this moment; wait until it ends, or name another "
        "--output\n"
    )
    assert not list(tmp_path.iterdir())


def test_help_lists_each_option_once_and_those_of_the_recipe_in_a_panel(run: Run) -> None:
    code, out, _ = run("meta-train", "--help")
    assert code == 0
    first, _, rest = out.partition("\nLearning:\n")
    learning = rest.partition("\nRunning:\n")[0]
    shown = {"recipe_file": "recipe", "changes": "set"}
    for field in fields(MetaTrainOptions):
        assert out.count(f"\n  --{shown.get(field.name, field.name).replace('_', '-')} ") == 1
    assert all(f"  --{name} " in first for name in ("preset", "recipe", "set", "meta-steps", "output", "resume"))
    assert all(f"  --{name} " in learning for name in ("algorithm", "backbone", "pretrain", "outer"))


@pytest.mark.parametrize("output", [".", "..", "sub/.."])
def test_an_output_beside_which_nothing_can_lie_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("meta-train", "--preset", "glyphs", "--output", output)
    assert code == 1
    assert f"--output {output}: expected the name of a new folder, such as" in err
