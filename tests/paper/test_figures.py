"""The paper's figures and tables on classifiers: what they train, and that their tests can fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewshot_sdk.artifacts.opening import load
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import DataSource, Preprocessing
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.tasks import TaskSampler, mini_batches
from fewshot_sdk.engine.inner_loop import FineTuner
from fewshot_sdk.errors import DataError
from fewshot_sdk.meta.first_order import split_batches, target
from fewshot_sdk.nets.network import build_network, random_params
from fewshot_sdk.nets.params import LearnerState
from fewshot_sdk.paper import combinations, experiment
from fewshot_sdk.paper import overlap as overlaps
from fewshot_sdk.paper import tables as paper_tables
from fewshot_sdk.paper.cells import ROWS, Cell, paper_lines, shape
from fewshot_sdk.paper.combinations import COMBINATIONS
from fewshot_sdk.paper.experiment import open_classes
from fewshot_sdk.paper.figures import Figure, Line, Panel, ahead
from fewshot_sdk.paper.overlap import SAMPLINGS, overlapping
from tests.conftest import Run, drawn_glyphs, tiny_recipe


@pytest.fixture(scope="module")
def glyphs() -> ClassImages:
    recipe = tiny_recipe()
    return drawn_glyphs(recipe.replace(preprocessing=preset("omniglot-5way").preprocessing))


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, glyphs: ClassImages) -> None:
    """No data but a few glyphs."""

    def few(source: DataSource, settings: Preprocessing, part: str) -> ClassImages:
        if source.name != "glyphs":
            raise DataError("there is none")
        return glyphs

    monkeypatch.setattr(experiment, "open_dataset", few)


def test_combinations_are_measured_during_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_data: None
) -> None:
    small = replace(combinations.SIZES["small"], meta_steps=2, points=2, n_tasks=2)
    monkeypatch.setitem(combinations.SIZES, "small", small)
    code, out, err = run("reproduce", "gradient-combinations", "--workers", 1, "--output", tmp_path / "figure")
    figure = Figure.from_json((tmp_path / "figure" / "data.json").read_bytes())
    assert (code, out.strip()) == (0, figure.verdict)
    assert "testing on made-up glyphs instead of omniglot: there is none" in err
    assert "made-up glyphs" in figure.verdict
    assert figure.x == (1, 2)
    assert [line.name for line in figure.lines] == list(COMBINATIONS)
    assert all(len(line.values) == 3 for line in figure.lines)


@pytest.mark.parametrize("name", ["g1+g2+g3", "g3"])
def test_a_combination_follows_the_gradients_that_it_names(glyphs: ClassImages, name: str) -> None:
    size = replace(combinations.SIZES["small"], rate=1e-4)
    recipe = combinations.recipe_of(name, size)
    task = TaskSampler(data=glyphs, n_way=5, k_shot=recipe.meta.k_shot).task(0)
    network = build_network(recipe.backbone, recipe.preprocessing, 5)
    start = LearnerState(params=random_params(network, 1), second_moments={}, updates=0)
    tuner = FineTuner(network, start, recipe.inner)
    none = tuner.tune(task.support, task.support_labels, torch.empty(0, 25, dtype=torch.int64))[0]
    rows = mini_batches(len(task.support), 25, 3, task.seed)
    assert sorted(rows.flatten().tolist()) == list(range(75))  # each image once
    each = [tuner.tune(task.support, task.support_labels, row[None])[0] - none for row in rows]
    expected = each[2] if name == "g3" else sum(each[1:], each[0])
    found = target(tuner, task, recipe.inner, recipe.meta)[0] - none
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.99  # up to second-order terms


def test_the_test_of_combinations_can_fail() -> None:
    curves: dict[str, Sequence[float]] = {name: [50.0, 51, 52] for name in COMBINATIONS}
    assert not combinations.shape(curves)[0]
    for name, (steps, algorithm, _) in COMBINATIONS.items():
        curves[name] = [20.0 + 10 * steps + (algorithm == "fomaml") + seed for seed in range(3)]
    holds, verdict = combinations.shape(curves)
    assert holds
    assert "NO" not in verdict
    curves["g2"] = [value - 2 for value in curves["g1+g2"]]
    holds, verdict = combinations.shape(curves)
    assert not holds
    assert "g1+g2 is behind g2 (by -2.0 ± 0.0 points): NO" in verdict


@pytest.mark.parametrize("name", SAMPLINGS)
def test_each_sampling_draws_as_its_name_says(glyphs: ClassImages, name: str) -> None:
    recipe = overlaps.recipe_of(SAMPLINGS[name], overlaps.SIZES["small"], steps=4, batch=25)
    task = TaskSampler(data=glyphs, n_way=5, k_shot=20).task(0)
    if name.startswith("Reptile"):
        rows = mini_batches(100, 25, 4, task.seed, recipe.meta.replacement)
    else:
        first, last = split_batches(task, recipe.inner, recipe.meta)
        assert set(last.flatten().tolist()).isdisjoint(first.flatten().tolist()) == (name != "shared tail, replacement")
        rows = torch.cat([first, last])
    assert all(len(set(batch.tolist())) == 25 for batch in rows)
    assert (len(set(rows.flatten().tolist())) == 100) == ("replacement" not in name)


def test_a_tail_overlaps_once_the_images_run_out() -> None:
    assert [overlapping(steps, 25) for steps in (2, 4, 5, 8)] == [0, 0, 1, 1]
    assert [overlapping(4, size) for size in (10, 25, 50, 100)] == [0, 0, 1, 1]
    assert overlapping(4, 30) == pytest.approx(20 / 30)


def test_overlap_goes_over_steps_and_batch_sizes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_data: None
) -> None:
    small = replace(overlaps.SIZES["small"], meta_steps=1, n_tasks=1, steps=(4, 5), batches=(30,))
    monkeypatch.setitem(overlaps.SIZES, "small", small)
    assert run("reproduce", "overlap", "--workers", 1, "--output", tmp_path / "figure")[0] == 0
    figure = Figure.from_json((tmp_path / "figure" / "data.json").read_bytes())
    assert figure.beside
    assert (figure.x, figure.beside.x) == ((4, 5), (25, 30))
    assert [line.name for line in figure.beside.lines] == list(SAMPLINGS)
    assert figure.line("Reptile").each(0) == figure.beside.line("Reptile").each(0)  # the same training
    assert figure.holds == ("does NOT" not in figure.verdict)


def test_the_test_of_overlap_requires_that_only_the_shared_tail_falls() -> None:
    def panels(shared: float, reptile: float = 80) -> list[Panel]:
        ends = {"Reptile": reptile, "separate tail": 75.0, "shared tail": shared}
        lines = tuple(
            Line(name=name, values=tuple((70.0 + seed, end + seed) for seed in range(3))) for name, end in ends.items()
        )
        return [Panel(across="steps", x=(4, 8), lines=lines), Panel(across="images", x=(25, 100), lines=lines)]

    assert overlaps.shape(panels(shared=60))[0]
    assert not overlaps.shape(panels(shared=75))[0]
    assert not overlaps.shape(panels(shared=60, reptile=65))[0]


def test_a_table_holds_the_papers_cells_beside_ours(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_data: None
) -> None:
    for name, short in paper_tables.SHORT.items():
        tiny = replace(short, meta_steps=1, maml_steps=min(1, short.maml_steps), n_tasks=2)
        monkeypatch.setitem(paper_tables.SHORT, name, tiny)
    assert run("reproduce", "table2", "--seeds", 4, "--workers", 1, "--output", tmp_path / "table")[0] == 0
    data = json.loads((tmp_path / "table" / "data.json").read_text())
    assert (data["seeds"], data["command"][-10:]) == ([0, 1, 2, 3], " --seeds 4")
    assert data["cells"] == ["5-way 1-shot", "5-way 5-shot", "20-way 1-shot", "20-way 5-shot"]
    figure = Figure.from_json((tmp_path / "table" / "data.json").read_bytes())
    assert figure.line("Reptile, paper").at(0) == (95.39, 0.09)
    assert [figure.line("MAML + transduction").has(i) for i in range(4)] == [True, True, False, False]
    kept = {e.shots: e for e in load("omniglot-5way").evaluations if e.mode == "inductive" and not e.baseline}
    assert figure.line("Reptile, bundled").at(1) == pytest.approx((100 * kept[5].accuracy, 100 * kept[5].ci95))
    assert "| Reptile, paper | 95.39 ± 0.09 |" in (tmp_path / "table" / "README.md").read_text()


def test_a_row_that_was_not_measured_stays_empty_beside_the_papers() -> None:
    paper = paper_lines("table1")["MAML + transduction"]
    lines = (Line(name="MAML", values=((None, None),) * 3), paper)
    figure = Figure(
        name="x", command="", across="", up="", x=(0, 1), cells=("one", "five"), lines=lines, holds=True, verdict=""
    )
    files = figure.files()
    assert b"| MAML |  |  |\n| MAML + transduction, paper | 48.7 \xc2\xb1 1.8 |" in files["README.md"]
    assert files["figure.png"].startswith(b"\x89PNG")


def test_at_paper_scale_a_bundled_initialization_stands_for_its_own_training_alone() -> None:
    kept = load("omniglot-5way")
    recipe = paper_tables.recipe_of("omniglot-5way", "reptile", "paper")
    assert recipe
    assert paper_tables._is_result_of(kept, recipe, 0, ["inductive", "transductive"])
    assert not paper_tables._is_result_of(kept, recipe, 1, ["inductive"])
    short = recipe.replace(meta=recipe.meta.replace(meta_steps=10))
    assert not paper_tables._is_result_of(kept, short, 0, ["inductive"])
    assert not paper_tables._is_result_of(replace(kept, evaluations=()), recipe, 0, ["inductive"])


def test_the_papers_own_cells_have_their_shape_and_others_need_not() -> None:
    cells: list[Cell] = [("omniglot-5way", 1), ("omniglot-5way", 5), ("omniglot-20way", 1), ("omniglot-20way", 5)]
    paper = paper_lines("table2")
    assert shape(paper, cells, paper)[0]
    assert not shape({**paper, "Reptile + transduction": paper["Reptile"]}, cells)[0]  # no gain
    turned = {row: Line(name=row, values=tuple(values[::-1] for values in line.values)) for row, line in paper.items()}
    assert not shape(turned, cells)[0]  # one shot ahead of five
    worse = {**paper, "Reptile": Line(name="Reptile", values=((80.0, 90.0, 70.0, 80.0),))}
    assert shape(worse, cells)[0]
    assert not shape(worse, cells, paper)[0]
    assert not shape(
        {**paper, "1st-order MAML + transduction": Line(name="x", values=((100, 101, 99, 102.0),))}, cells
    )[0]
    assert set(ROWS) == set(paper)


def test_at_paper_scale_missing_data_are_an_error(run: Run, tmp_path: Path, no_data: None) -> None:
    with pytest.raises(DataError, match="there is none"):
        open_classes(preset("omniglot-5way"), "paper")
    code, _, err = run("reproduce", "overlap", "--scale", "paper", "--workers", 1, "--output", tmp_path / "x")
    assert (code, err.strip()) == (1, "error: there is none")
    assert not list(tmp_path.iterdir())


def test_validation_classes_stand_in_for_missing_test_classes_of_mini_imagenet(
    monkeypatch: pytest.MonkeyPatch, glyphs: ClassImages
) -> None:
    def no_test(source: DataSource, settings: Preprocessing, part: str) -> ClassImages:
        if part == "test":
            raise DataError("kept apart")
        return glyphs

    monkeypatch.setattr(experiment, "open_dataset", no_test)
    assert open_classes(preset("mini-imagenet-5way"), "paper").about == "mini-imagenet's validation classes"
    with pytest.raises(DataError, match="kept apart"):
        open_classes(preset("omniglot-5way"), "paper")


def test_what_both_share_by_seed_cancels_in_a_paired_interval() -> None:
    assert ahead([11, 25, 38], [10, 24, 37]) == (1, 0)
    mean, half = ahead([11, 24, 38], [10, 24, 36])
    assert mean == 1
    assert half == pytest.approx(4.303 / 3**0.5)
