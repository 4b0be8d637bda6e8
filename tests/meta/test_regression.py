"""Numbers instead of pictures: waves, points in a CSV, a curve, an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from fewshot_sdk import load, pull, push, save
from fewshot_sdk.adaptation.regressor import adapt_regressor
from fewshot_sdk.algorithms import ALGORITHMS, Algorithm
from fewshot_sdk.artifacts.initialization import NumberInitialization, of_numbers
from fewshot_sdk.artifacts.opening import load_any, load_regressor
from fewshot_sdk.config.regression import NUMBER_PRESETS, Regression, by_algorithm
from fewshot_sdk.errors import BundleError, ConfigError, ParityError, SupportError, TrainingDiverged
from fewshot_sdk.export.classifier import with_metadata
from fewshot_sdk.export.regressor import check_numbers, export_regressor, regressor_graph
from fewshot_sdk.images.tables import read_numbers
from fewshot_sdk.meta.regression import meta_train_on_numbers, summarized, wave_errors
from fewshot_sdk.nets.perceptrons import perceptron
from fewshot_sdk.runtime.lineage import lineage
from fewshot_sdk.runtime.regressor import NumberPredictor
from fewshot_sdk.testing.hub import LocalHub
from tests.cli.test_start_up import shell
from tests.conftest import Run

POINTS = np.array([[-4, 1.5], [-2, -1.7], [0, 0.3], [1, 2.0], [3, 0.1]], np.float32)


def short(algorithm: Algorithm = "reptile", meta_steps: int = 4) -> Regression:
    recipe = by_algorithm(NUMBER_PRESETS["sine"], algorithm)
    return recipe.replace(meta=recipe.meta.replace(meta_steps=meta_steps))


def trained(algorithm: Algorithm = "reptile") -> NumberInitialization:
    *_, last = meta_train_on_numbers(short(algorithm))
    return last.initialization


@pytest.fixture(scope="module")
def sine() -> NumberInitialization:
    return trained()


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in POINTS.tolist()))
    return path


def test_the_whole_line_on_numbers(run: Run, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("meta-train", "--preset", "sine", "--meta-steps", 3, "--output", "init")[0] == 0
    code, out, err = run("adapt", "--init", "init", "--support", points, "--output", "curve", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert (said["points"], said["steps"], said["predicts"]) == (5, 32, "y")
    assert said["mean_squared_error"]["after"] < said["mean_squared_error"]["before"]
    assert (tmp_path / "curve" / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert "(fit.png)" in (tmp_path / "curve" / "README.md").read_text()
    assert run("export", "curve", "--output", "curve.onnx")[0] == 0
    by_onnx, by_torch = (run("predict", model, "points.csv", "0.5", "--json")[1] for model in ("curve.onnx", "curve"))
    rows = json.loads(by_onnx)
    assert [row["x"] for row in rows] == [-4, -2, 0, 1, 3, 0.5]
    assert [row["y"] for row in rows] == pytest.approx([row["y"] for row in json.loads(by_torch)], abs=1e-5)
    lines = run("predict", "curve.onnx", "--", "-2")[1].splitlines()
    assert lines[0] == "x,y"
    assert float(lines[1].partition(",")[2]) == pytest.approx(rows[1]["y"], rel=1e-5)
    chain = run("info", "curve.onnx")[1]
    assert chain.startswith("exported regressor of y from x, 32 steps of sgd")
    assert "fewshot meta-train --preset sine --meta-steps 3 --seed 0" in chain
    for folder in ("init", "curve"):
        assert run("verify", folder)[0] == 0
        assert "--preset sine" in run("info", folder)[1]
    code, out, _ = run("evaluate", "init", "--tasks", 3, "--record")
    assert out.startswith("mean squared error ")
    assert "| sine, 10 points | 32 |" in (tmp_path / "init" / "README.md").read_text()


def test_predicting_numbers_by_onnx_imports_no_torch(sine: NumberInitialization, tmp_path: Path) -> None:
    export_regressor(adapt_regressor(sine, POINTS), tmp_path / "c.onnx")
    done = shell("-X", "importtime", "-m", "fewshot_cli.main", "predict", "c.onnx", "1.5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "onnx", "huggingface_hub", "safetensors", "matplotlib"}


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a != "protonet"])
def test_every_algorithm_trains_fits_and_continues_to_the_bits_of_not_stopping(
    algorithm: Algorithm, tmp_path: Path
) -> None:
    first, *_, last = meta_train_on_numbers(short(algorithm))
    *_, again = meta_train_on_numbers(short(algorithm), start=first.initialization)
    assert again.initialization.sha256 == last.initialization.sha256 != first.initialization.sha256
    kept = load_any(save(last.initialization, tmp_path / "init"))
    assert kept.files() == last.initialization.files()
    assert of_numbers(kept)
    made = adapt_regressor(kept, POINTS)
    assert made.config.after < made.config.before or algorithm == "anil"  # its inner steps move only the head


def test_steps_are_gradient_descent_on_the_mean_squared_error(sine: NumberInitialization) -> None:
    assert all(
        torch.equal(adapt_regressor(sine, POINTS, steps=0).params[name], t) for name, t in sine.state.params.items()
    )
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in sine.state.params.items()}
    x, y = torch.from_numpy(POINTS[:, :1]), torch.from_numpy(POINTS[:, 1:])
    network = perceptron(sine.recipe.network, 1)
    F.mse_loss(functional_call(network, leaves, (x,)), y).backward()  # type: ignore[no-untyped-call]
    for name, tensor in adapt_regressor(sine, POINTS, steps=1).params.items():
        gradient = leaves[name].grad
        assert gradient is not None
        torch.testing.assert_close(tensor, (leaves[name] - 0.02 * gradient).detach())


def test_held_out_points_are_predicted_from_the_others(sine: NumberInitialization) -> None:
    errors = []
    for i in range(len(POINTS)):
        rest = adapt_regressor(sine, np.delete(POINTS, i, 0))
        errors.append(float((rest.predict(POINTS[i : i + 1, :1])[0] - POINTS[i, 1]) ** 2))
    assert adapt_regressor(sine, POINTS).config.held_out == pytest.approx(fmean(errors), rel=1e-4)


def test_a_folder_gives_back_the_regressor(sine: NumberInitialization, tmp_path: Path) -> None:
    made = adapt_regressor(sine, POINTS)
    again = load_regressor(save(made, tmp_path / "curve"))
    assert again.files() == made.files()
    (tmp_path / "curve" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(BundleError, match="was changed or damaged"):
        load_regressor(tmp_path / "curve")


def test_a_file_that_disagrees_with_pytorch_is_refused(sine: NumberInitialization, tmp_path: Path) -> None:
    made = adapt_regressor(sine, POINTS)
    parity = export_regressor(made, tmp_path / "curve.onnx").metadata.parity
    assert (parity.points, parity.random, parity.batches) == (5, 1000, (1, 2, 7))
    assert parity.max_difference <= 1e-4
    bent = {**made.params, "head.bias": made.params["head.bias"] + 1e-3}
    with pytest.raises(ParityError, match=r"disagree at \[.*\], in batches of 1: they give .*; no file was written"):
        check_numbers(replace(made, params=bent), NumberPredictor(tmp_path / "curve.onnx"))


def test_a_file_that_is_not_what_it_says_is_refused(sine: NumberInitialization, tmp_path: Path) -> None:
    made = adapt_regressor(sine, POINTS)
    metadata = export_regressor(made, tmp_path / "curve.onnx").metadata
    said = with_metadata(regressor_graph(made), metadata.replace(inputs=("x", "z")))
    with pytest.raises(BundleError, match="which does not match its metadata; export it again"):
        NumberPredictor(said)
    with pytest.raises(BundleError, match="the model is not a regressor"):
        NumberPredictor(regressor_graph(made).SerializeToString())
    with pytest.raises(SupportError, match=r"inputs: expected float32 \(n, 1\), found float32 \(5, 2\)"):
        NumberPredictor(tmp_path / "curve.onnx").predict(POINTS)


@pytest.mark.parametrize("opset", [15, 18, 23])
def test_every_opset_gives_the_same(sine: NumberInitialization, opset: int) -> None:
    assert regressor_graph(adapt_regressor(sine, POINTS), opset).opset_import[0].version == opset


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x,y\n1,2\n3,abc\n", r"points\.csv, row 3, column y: expected a number such as -1\.5, found 'abc'$"),
        ("x,y\n1,2\nnan,3\n", r"row 3, column x: .* found 'nan'$"),
        ("x,y\n1,inf\n2,3\n", r"row 2, column y: .* found 'inf'$"),
        ("x,y\n1,1e39\n2,3\n", r"row 2, column y: .* found '1e39'$"),
        ("x,y\n1,\n2,3\n", r"row 2, column y: .* found nothing$"),
        ("x,y\n1,2,3\n2,3\n", r"row 2: expected 2 columns as in row 1, found 3$"),
        ("x,y\n1\n2,3\n", r"row 2: expected 2 columns as in row 1, found 1$"),
        ("x,y\n1,2\n", r"expected 2 or more rows of numbers under the header, found 1$"),
        ("1,2\n3,4\n", r"row 1: expected a header with the columns x and y, found 1, 2$"),
        ("x,y,y\n1,2,3\n", r"row 1: expected one column y, found 2$"),
        ("", r"row 1: expected a header .* found none$"),
        ("x,y\n" + 9 * "a,b\n", r"\(and 4 more such rows\)$"),
    ],
)
def test_a_wrong_table_is_told_by_row_and_column(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(SupportError, match=says):
        read_numbers(tmp_path / "points.csv", ("x", "y"), least=2)


@pytest.mark.parametrize(
    "text", ["X,y\n-1.5,2e1\n0.25, 3 \n", "y;note;x\r\n20;a;-1,5\r\n;;\r\n3;b,c;0,25", "\ufeffx\ty\n-1.5\t20\n0.25\t3"]
)
def test_numbers_of_all_countries_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "points.csv").write_text(text, newline="")
    assert read_numbers(tmp_path / "points.csv", ("x", "y")).tolist() == [[-1.5, 20], [0.25, 3]]


def test_a_table_of_its_columns_takes_the_bundled_initialization(run: Run, points: Path, tmp_path: Path) -> None:
    code, _, err = run("adapt", "--support", points, "--output", tmp_path / "curve")
    assert code == 0
    assert "numbers in the columns x, y: using the initialization sine" in err
    assert load_regressor(tmp_path / "curve").config.initialization.name == "sine"
    code, _, err = run("adapt", "--support", points, "--method", "probe", "--output", tmp_path / "other")
    assert (code, "sine is for numbers: adapt takes only --steps" in err) == (1, True)
    pictures = tmp_path / "pictures.csv"
    pictures.write_text("path,label,x,y\nnone.png,ant,1,2\n")
    assert "holds only the class 'ant'" in run("adapt", "--support", pictures, "--output", tmp_path / "other")[2]


def test_what_is_for_numbers_and_what_is_for_pictures_is_told(
    run: Run, sine: NumberInitialization, saved: Path, points: Path, drawings: Path, tmp_path: Path
) -> None:
    init, curve = save(sine, tmp_path / "sine"), save(adapt_regressor(sine, POINTS), tmp_path / "curve")
    others = tmp_path / "others.csv"
    others.write_text("day,price\n1,2\n3,4\n")
    export_regressor(load_regressor(curve), tmp_path / "curve.onnx")
    picture, out = drawings / "ant" / "0.png", tmp_path / "out"
    for words, says in (
        (
            ["adapt", "--support", others, "--output", out],
            "no column is named label, and none holds text; name the one of the labels; for numbers name",
        ),
        (["adapt", "--support", points, "--init", saved, "--output", out], "expected a header with the columns path"),
        (["adapt", "--support", drawings, "--init", init, "--output", out], "which is for numbers: adapt it to a CSV"),
        (["adapt", "--support", points, "--init", init, "--delta", "int8", "--output", out], "takes only --steps"),
        (["evaluate", init, "--baseline", "random"], "evaluate takes only --shots"),
        (["evaluate", init, "--ways", 5], "evaluate takes only --shots"),
        (["compare", init, saved], "which is for numbers"),
        (
            ["export", curve, "--output", f"{out}.onnx", "--precision", "int8"],
            "export takes only --output, --opset, --ir-version",
        ),
        (
            ["export", curve, "--output", f"{out}.onnx", "--max-drop", 0.5],
            "export takes only --output, --opset, --ir-version",
        ),
        (["predict", tmp_path / "curve.onnx", picture], "0.png: expected a number or a .csv, because"),
        (["predict", curve, picture], "0.png: expected a number or a .csv, because"),
        (
            ["predict", tmp_path / "curve.onnx", "1,2"],
            "1,2: expected one value for each of x, separated by commas, found 2",
        ),
        (
            ["meta-train", "--preset", "sine", "--root", tmp_path, "--output", out],
            "sine is for numbers: leave out",
        ),
        (["meta-train", "--preset", "sine", "--algorithm", "protonet", "--output", out], "and sine has none"),
        (["meta-train", "--preset", "cosine", "--output", out], "glyphs, and sine"),
    ):
        code, said, err = run(*words)
        assert (code, said) == (1, ""), (words, err)
        assert says in err.strip().splitlines()[-1], (words, err)
        assert not out.exists()
    with pytest.raises(BundleError, match="which is for numbers"):
        load(init)
    with pytest.raises(SupportError, match=r"expected float32 \(2 or more, 2\): x, y, found float64"):
        adapt_regressor(sine, POINTS.astype(np.float64))
    with pytest.raises(TrainingDiverged, match="is not finite after adapting to these points; try fewer --steps"):
        adapt_regressor(sine, 1e18 * POINTS)
    with pytest.raises(ConfigError, match=r"this is not the interrupted training run: .*seed was 0, now 1"):
        next(meta_train_on_numbers(short(meta_steps=5), seed=1, start=sine))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub(token="hf_secret") as hub:
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        yield hub


def test_an_initialization_for_numbers_goes_to_the_hub_and_back(
    hub: LocalHub, sine: NumberInitialization, tmp_path: Path
) -> None:
    source = push(save(sine, tmp_path / "init"), "user/waves").source
    assert pull(source, tmp_path / "copy").source == source
    found = load_any("user/waves")
    assert found.files() == sine.files()
    assert of_numbers(found)
    assert adapt_regressor(found, POINTS).config.initialization.source == source
    assert lineage("user/waves").data == "sine"


def bundled_error(n_waves: int) -> tuple[float, float]:
    init = load_any("sine")
    assert of_numbers(init)
    found = summarized(list(wave_errors(init, n_waves=n_waves)), init, 10, 0)
    return found.mean_squared_error, found.ci95


def test_the_bundled_one_fits_waves_to_ten_points_in_32_steps() -> None:
    assert bundled_error(40)[0] < 0.05


@pytest.mark.slow
def test_the_bundled_one_is_under_the_papers_like_error_over_a_thousand_waves() -> None:
    error, interval = bundled_error(1000)
    assert error + interval < 0.05
