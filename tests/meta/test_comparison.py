"""Initializations on the same tasks."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fewshot_sdk import evaluate, save
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.records import Metric, Pair
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.meta.comparison import measured_steps, progressions, summarized
from fewshot_sdk.storage.plots import compared
from tests.conftest import Run, tiny_recipe


@pytest.fixture(autouse=True)
def _few_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 40)


@pytest.fixture
def other(init: Initialization) -> Initialization:
    recipe = tiny_recipe()
    return fresh(recipe.replace(adaptation=recipe.adaptation.replace(steps=3)), 5, init.provenance)


def test_each_does_what_evaluate_says_of_it_and_differences_are_those_of_the_tasks(
    init: Initialization, other: Initialization, few_glyphs: ClassImages
) -> None:
    tasks = TaskSampler(data=few_glyphs, n_way=3, k_shot=2, n_query=2, seed=4)
    inits = {"one": init, "two": other}
    shares = list(progressions(inits, dict.fromkeys(inits, tasks), 8, "frozen"))
    found = summarized(shares, inits, tasks, "frozen")
    for rival, one in zip(found.rivals, inits.values(), strict=True):
        alone = evaluate(one, tasks, n_tasks=8, mode="frozen")
        assert (rival.accuracy, rival.ci95) == (alone.accuracy, alone.ci95)
        assert tuple(point.steps for point in rival.points) == measured_steps(one)
        assert (rival.points[-1].accuracy, rival.points[-1].ci95) == (rival.accuracy, rival.ci95)
        for point in rival.points[:3]:
            fewer = one.recipe.replace(adaptation=one.recipe.adaptation.replace(steps=point.steps))
            short = evaluate(replace(one, recipe=fewer), tasks, n_tasks=8, mode="frozen")
            if len(tasks.task(0).support) <= one.recipe.adaptation.batch_size:  # the order then does not matter
                assert point.accuracy == pytest.approx(short.accuracy, abs=1 / 48 + 1e-9)
    (pair,) = found.pairs
    assert pair.difference == pytest.approx(found.rivals[0].accuracy - found.rivals[1].accuracy)
    ahead = [task["one"][-1] - task["two"][-1] for task in shares]
    assert pair.wins == sum(a > 0 for a in ahead)
    assert pair.losses == sum(a < 0 for a in ahead)
    assert pair.wins + pair.losses + pair.ties == 8


def test_an_initialization_ties_with_itself_in_every_task(init: Initialization, few_glyphs: ClassImages) -> None:
    tasks = TaskSampler(data=few_glyphs, n_way=3, k_shot=1, n_query=1)
    inits = {"one": init, "same": init}
    found = summarized(
        list(progressions(inits, dict.fromkeys(inits, tasks), 3, "inductive")), inits, tasks, "inductive"
    )
    assert (found.pairs[0].difference, found.pairs[0].ci95, found.pairs[0].ties) == (0, 0, 3)


def test_swapping_the_two_turns_the_sign_and_the_wins(
    init: Initialization, other: Initialization, few_glyphs: ClassImages
) -> None:
    tasks = TaskSampler(data=few_glyphs, n_way=3, k_shot=1, n_query=1)
    pairs: list[Pair] = []
    for inits in ({"one": init, "two": other}, {"two": other, "one": init}):
        shares = list(progressions(inits, dict.fromkeys(inits, tasks), 5, "frozen"))
        pairs += summarized(shares, inits, tasks, "frozen").pairs
    there, back = pairs
    assert (there.difference, there.wins, there.losses) == (-back.difference, back.losses, back.wins)
    assert there.ci95 == pytest.approx(back.ci95)


def test_from_the_shell(run: Run, init: Initialization, other: Initialization, tmp_path: Path) -> None:
    took = Metric(meta_steps=2, seconds=3, memory_mb=412.3, loss=1, accuracy=0.5, ci95=0.1, tasks=9, ways=5)
    init = replace(init, metrics=(took,))
    one, two, plot = save(init, tmp_path / "one"), save(other, tmp_path / "two"), tmp_path / "plot.png"
    words = ("compare", one, two, "--ways", 3, "--tasks", 3, "--shots", 2, "--shots", 1)
    code, out, err = run(*words, "--plot", plot, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert [(c["shots"], c["tasks"], c["data"]) for c in said] == [(1, 3, "glyphs"), (2, 3, "glyphs")]
    assert [rival["name"] for rival in said[0]["rivals"]] == [str(one), str(two)]
    image = Image.open(io.BytesIO(plot.read_bytes()))
    assert (image.format, image.size) == (
        "PNG",
        (1350, 360),
    )  # three panels: steps at one shot, steps at two, and shots
    code, out, _ = run(*words)
    assert code == 0
    assert "glyphs 3-way 1-shot inductive, the same 3 tasks, seed 0" in out
    assert f"{one} - {two}: " in out
    assert " %, meta-trained in 0.0 minutes and 412 MB\n" in out
    assert out.count(" MB") == 2  # one for each number of shots; the other initialization has no such figure
    assert "tasks won" in out


def test_two_workers_find_the_same(
    run: Run, init: Initialization, other: Initialization, omniglot_root: Path, tmp_path: Path
) -> None:
    one, two = save(init, tmp_path / "one"), save(other, tmp_path / "two")
    missing = ("compare", one, two, "--data", "mini-imagenet", "--root", tmp_path, "--workers", 2)
    code, out, err = run(*missing)
    assert (code, out, len(err.splitlines())) == (1, "", 1), err  # reported once, not by a worker
    words = (
        "compare",
        one,
        two,
        "--data",
        "omniglot",
        "--root",
        omniglot_root,
        "--tasks",
        5,
        "--shots",
        1,
        "--shots",
        2,
    )
    alone, together = (run(*words, "--ways", 3, "--json", "--workers", n) for n in (1, 2))
    assert together[:2] == alone[:2]
    assert "starting 2 workers" in together[2]


def test_what_cannot_be_compared_is_told(run: Run, init: Initialization, tmp_path: Path) -> None:
    one = save(init, tmp_path / "one")
    dense = save(fresh(tiny_recipe(head="dense"), 0, init.provenance), tmp_path / "dense")
    for words, says in [
        ((one,), "expected two or more different initializations"),
        ((one, one), "expected two or more different initializations"),
        ((one, dense, "--ways", 3, "--tasks", 2), f"{dense}: this initialization's dense head has 5 classes"),
        ((one, dense, "--plot", tmp_path / "x.gif"), "expected a name that ends in .png or .svg"),
        ((one, tmp_path / "none"), "no initialization"),
    ]:
        code, out, err = run("compare", *words)
        assert (code, out, len(err.splitlines())) == (1, "", 1), err
        assert says in err
    with pytest.raises(ConfigError, match="two or more initializations"):
        next(progressions({}, {}, 1, "frozen"))


def test_the_plot_is_the_same_each_time(init: Initialization, few_glyphs: ClassImages) -> None:
    tasks = TaskSampler(data=few_glyphs, n_way=3, k_shot=1, n_query=1)
    inits = {"one": init, "same": init}
    found = [summarized(list(progressions(inits, dict.fromkeys(inits, tasks), 2, "frozen")), inits, tasks, "frozen")]
    drawn = compared(found)
    assert Image.open(io.BytesIO(drawn)).size == (450, 360)
    assert compared(found) == drawn
    assert compared(found, "svg") == compared(found, "svg")
