from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_sdk import Delta, DeltaPredictor, Predictor, adapt, export_onnx, load_classifier, save
from fewshot_sdk.adaptation.adaptation import compare_and_adapt, suitable
from fewshot_sdk.adaptation.choice import choose
from fewshot_sdk.adaptation.cross_validation import (
    Candidate,
    HeldOut,
    Outcome,
    accuracy_of,
    log_losses,
)
from fewshot_sdk.adaptation.methods import Strategy
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.recipe import Conv4, DataSource, Preprocessing, Pretraining, Residual
from fewshot_sdk.config.records import ClassifierConfig, Method, Trial
from fewshot_sdk.errors import BundleError, ConfigError
from fewshot_sdk.export.checks import TOLERANCE
from fewshot_sdk.images.examination import Examined
from fewshot_sdk.images.preprocessing import preprocess
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.runtime.folds import folds_and_repeats, stratified_splits
from tests.conftest import draw_folder, tiny_recipe


@pytest.mark.parametrize("counts", [(5, 5, 5), (2, 2, 2), (2, 5, 1, 9), (3, 40), (1, 1, 2, 2)])
def test_every_picture_is_held_out_once_a_repeat_and_every_class_is_trained_on(counts: tuple[int, ...]) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    folds, repeats = folds_and_repeats(targets, 2)
    splits = stratified_splits(targets, folds, repeats, seed=0)
    times = np.bincount(np.concatenate([split.held_out for split in splits]), minlength=len(targets))
    lone = np.isin(targets, [label for label, n in enumerate(counts) if n == 1])
    assert (times == np.where(lone, 0, repeats)).all()
    for split in splits:
        assert set(targets[split.train]) == set(range(len(counts)))
        assert len(split.held_out)
        assert not set(split.held_out) & set(split.train)


def test_the_work_is_capped_for_large_support_sets() -> None:
    assert [np.prod(folds_and_repeats(np.arange(5).repeat(n), 2)) for n in (1, 5, 100, 101, 1000)] == [0, 10, 5, 3, 2]
    assert folds_and_repeats(np.arange(5).repeat(5), 1) == (5, 1)


def trial(method: str, steps: int, accuracy: float, error: float, log_loss: float) -> Outcome:
    strategy = Strategy(method=method, steps=steps)  # type: ignore[arg-type]
    record = Trial(
        method=strategy.method, init="i", steps=steps, accuracy=accuracy, standard_error=error, log_loss=log_loss
    )
    nothing: Candidate = None  # type: ignore[assignment]
    held: HeldOut = None  # type: ignore[assignment]
    return Outcome(candidate=nothing, strategy=strategy, trial=record, seconds=0.0, held_out=held)


def test_the_lowest_log_loss_within_one_standard_error_of_the_best_is_chosen() -> None:
    outcomes = [
        trial("reptile", 20, 0.92, 0.05, 0.5),
        trial("probe", 0, 0.88, 0.06, 0.4),
        trial("reptile", 10, 0.9, 0.05, 0.45),
        trial("prototypes", 0, 0.86, 0.06, 0.1),
    ]
    chosen, why = choose(outcomes)
    assert chosen is outcomes[1]
    assert why == (
        "chose a linear probe on i: 88.0% in cross-validation, the lowest log loss within one standard error (5.0%) "
        "of the best, 20 reptile steps from i with 92.0%"
    )
    chosen, why = choose([trial("reptile", 20, 0.92, 0.01, 0.5), *outcomes[1:]])
    assert (chosen.strategy.steps, "has a lower log loss" in why) == (20, True)
    _, why = choose(outcomes[:1])
    assert why == "20 reptile steps from i: 92.0% in cross-validation; nothing else was compared"


def test_of_equal_log_losses_the_simplest_is_chosen() -> None:
    strategies = [
        trial("reptile", 20, 1.0, 0.0, 0.2),
        trial("reptile", 10, 1.0, 0.0, 0.2),
        trial("probe", 0, 1.0, 0.0, 0.2),
    ]
    assert choose(strategies)[0] is strategies[2]


def test_the_log_loss_does_not_depend_on_how_large_the_logits_are() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.5], [0.0, 0.2]] * 25)
    targets, rows = np.array([0, 1, 0, 0] * 25), np.arange(100)
    found = [
        log_losses(HeldOut(logits=scale * logits, scores=logits[:, 0], targets=targets, rows=rows, folds=rows)).mean()
        for scale in (1.0, 3.0, 10.0)
    ]
    assert found == pytest.approx([found[0]] * 3, rel=0.02)
    assert 0 < found[0] < np.log(2)


def test_the_standard_error_counts_each_picture_once() -> None:
    logits = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]] * 2)
    rows = np.arange(4).repeat(1)
    held = HeldOut(
        logits=logits,
        scores=logits[:, 0],
        targets=np.zeros(8, np.int64),
        rows=np.concatenate([rows, rows]),
        folds=np.zeros(8, np.int64),
    )
    assert accuracy_of(held) == pytest.approx((0.75, np.std([1, 1, 0, 1], ddof=1) / 2))


def test_auto_gives_the_same_as_the_strategy_it_chose_alone(init: Initialization, drawings: Path) -> None:
    found = adapt(init, drawings, method="auto", reject_rate=0.1)
    chosen = found.config
    alone = adapt(init, drawings, method=chosen.method, steps=chosen.adaptation.steps, reject_rate=0.1)
    assert alone.files()["model.safetensors"] == found.files()["model.safetensors"]
    assert alone.config.calibration is not None
    assert chosen.calibration is not None
    of_all_repeats = {
        name: getattr(chosen.calibration, name) for name in ("accuracy", "standard_error", "confused", "curve")
    }
    calibration = alone.config.calibration.replace(**of_all_repeats)
    assert alone.config.replace(comparison=chosen.comparison, calibration=calibration) == chosen
    assert adapt(init, drawings, method="auto", reject_rate=0.1).files() == found.files()
    best = max(t.accuracy - t.standard_error for t in chosen.comparison if t.accuracy == _best(chosen.comparison))
    strategy = (chosen.method, chosen.adaptation.steps)
    assert next(t for t in chosen.comparison if (t.method, t.steps) == strategy).accuracy >= best - 1e-9


def _best(trials: tuple[Trial, ...]) -> float:
    return max(trial.accuracy for trial in trials)


def test_of_several_initializations_the_better_is_taken(init: Initialization, drawings: Path) -> None:
    noise = fresh(tiny_recipe(), 0, init.provenance)
    seen: list[int] = []

    def watch(work: Iterator[str], total: int) -> Iterator[str]:
        seen.append(total)
        yield from work

    made = compare_and_adapt({"noise": noise, "glyphs": init}, drawings, method="reptile", steps=9, watch=watch)
    tried = {outcome.trial.init: outcome.trial.accuracy for outcome in made.outcomes}
    assert tried.keys() == {"noise", "glyphs"}
    wanted = init if tried["glyphs"] > tried["noise"] else noise
    assert made.classifier.config.initialization.sha256 == wanted.sha256
    assert seen == [2 * 8, 3]  # 4 folds twice for each, then each of 3 classes left out


def test_only_initializations_for_any_number_of_classes_are_tried(init: Initialization) -> None:
    both = {"dense": fresh(tiny_recipe(head="dense"), 0, init.provenance), "zero": init}
    assert suitable(both).keys() == {"zero"}


def test_what_is_for_research_only_is_not_tried_unless_it_is_named(init: Initialization) -> None:
    recipe = init.recipe.replace(data=DataSource(name="mini-imagenet", split="ravi"))
    assert suitable({"research": replace(init, recipe=recipe), "zero": init}).keys() == {"zero"}


def test_with_one_picture_a_class_photo_is_taken(init: Initialization, tmp_path: Path) -> None:
    recipe = tiny_recipe(backbone=Residual(widths=(4,)), pretraining=Pretraining(epochs=1))
    seeing = recipe.preprocessing.replace(channels=3, mean=(0.5,) * 3, std=(0.3,) * 3)
    photo = fresh(recipe.replace(preprocessing=seeing), 0, init.provenance)
    inits = {"omniglot": init, "photo": photo}

    def chosen(colour: int) -> ClassifierConfig:
        def seen(settings: Preprocessing) -> SupportSet:
            pixels = np.zeros((3, 16, 16, settings.channels), np.uint8)
            pixels[..., 0] = colour
            return SupportSet(images=pixels, targets=np.arange(3), labels=("a", "b", "c"))

        every = Examined(supports={settings: seen(settings) for settings in (recipe.preprocessing, seeing)})
        return compare_and_adapt(inits, every).classifier.config

    folder = draw_folder(tmp_path / "in")
    assert {trial.method for trial in adapt(photo, folder).config.comparison} == {"prototypes", "probe"}
    assert adapt(photo, folder, steps=1, reject_rate=None).config.method == "reptile"
    assert (chosen(200).initialization.sha256, chosen(200).method) == (photo.sha256, "probe")
    assert (chosen(0).initialization.sha256, chosen(0).method) == (photo.sha256, "probe")


def test_calibration_is_recorded_and_identical_in_the_exported_file(init: Initialization, tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "in", ("ant", "bee", "cat", "dog"), shots=5)
    made = adapt(init, folder, method="probe", reject_rate=0.3)
    record = made.config.calibration
    assert record is not None
    assert (record.pictures, record.folds) == (20, 5)
    assert made.config.threshold == 0
    assert record.known_lost < (record.known_lost_most or 0) < 1
    assert made.config.least_score is not None
    assert made.config.temperature != 1
    assert record.auroc is not None
    predictor = Predictor(export_onnx(made, tmp_path / "m.onnx").path)
    assert predictor.metadata.least_score == made.config.least_score
    images = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 1), np.uint8)
    pixels = np.stack([preprocess(image, made.config.preprocessing) for image in images])
    np.testing.assert_allclose(predictor.probabilities(images), made.probabilities(pixels), atol=TOLERANCE)
    new = sorted(draw_folder(tmp_path / "new", ("ant", "bee", "cat", "dog", "elk", "fox"), first=5).glob("*/*.png"))
    ours, theirs = made.predict(new), predictor.predict(new)
    assert [(a.label, a.nearest) for a in ours] == [(a.label, a.nearest) for a in theirs]
    assert {a.label is None for a in ours} == {True, False}


def test_the_accuracy_of_the_comparison_is_the_accuracy_of_the_record(init: Initialization, drawings: Path) -> None:
    config = adapt(init, drawings, reject_rate=0.1).config
    strategy = (config.method, config.adaptation.steps)
    (trial,) = [t for t in config.comparison if (t.method, t.steps) == strategy]
    assert config.calibration is not None
    assert config.calibration.accuracy == trial.accuracy
    assert config.calibration.standard_error == trial.standard_error


@pytest.mark.parametrize("method", ["prototypes", "probe"])
def test_where_each_picture_is_judged_alone_a_cosine_decides_the_same_everywhere(
    init: Initialization, tmp_path: Path, method: Method
) -> None:
    alone = fresh(tiny_recipe(backbone=Conv4(filters=8, norm="group")), 0, init.provenance)
    made = adapt(alone, draw_folder(tmp_path / "in", shots=5), method=method, reject_rate=0.3)
    assert made.config.score == "cosine"
    assert -1 < (made.config.least_score or -1) < 1
    new = sorted(draw_folder(tmp_path / "new", ("ant", "bee", "cat", "elk", "fox"), first=5).glob("*/*.png"))
    said = [answer.label for answer in made.predict(new)]
    assert {label is None for label in said} == {True, False}
    folder = save(made, tmp_path / "m")
    assert [answer.label for answer in load_classifier(folder).predict(new)] == said
    for precision in ("fp32", "fp16"):
        path = export_onnx(made, tmp_path / f"{precision}.onnx", precision=precision, max_drop=1).path
        found = [answer.label for answer in Predictor(path).predict(new)]
        assert sum(a != b for a, b in zip(found, said, strict=True)) <= (precision == "fp16")
    predictor = DeltaPredictor(save(alone, tmp_path / "init"))
    predictor.add("it", save(Delta(classifier=made, base=alone, precision="float32"), tmp_path / "delta"))
    assert [answer.label for answer in predictor.predict("it", new)] == said
    (folder / "centre.safetensors").unlink()
    with pytest.raises(BundleError, match=r"centre\.safetensors"):
        load_classifier(folder)


def test_a_reject_rate_of_zero_never_rejects(init: Initialization, drawings: Path, tmp_path: Path) -> None:
    made = adapt(init, drawings, method="prototypes", reject_rate=0)
    assert (made.config.threshold, made.config.least_score) == (0, None)
    strangers = sorted(draw_folder(tmp_path / "new", ("elk", "fox")).glob("*/*.png"))
    assert all(answer.label == answer.nearest for answer in made.predict(strangers))


def test_two_classes_have_no_auroc_and_a_reject_rate_is_a_share(init: Initialization, tmp_path: Path) -> None:
    made = adapt(init, draw_folder(tmp_path / "in", ("ant", "bee")), method="prototypes", reject_rate=0.1)
    assert made.config.calibration is not None
    assert made.config.calibration.auroc is None
    with pytest.raises(ConfigError, match="expected at least 0 and under 1, found 1"):
        adapt(init, tmp_path / "in", reject_rate=1)


def test_one_picture_of_each_class_falls_back(init: Initialization, few_support: SupportSet) -> None:
    made = compare_and_adapt({"other": init, "photo": init}, few_support)
    config = made.classifier.config
    assert (config.method, config.adaptation.steps, config.temperature, config.threshold) == ("reptile", 20, 1, 0)
    assert "from photo, temperature 1, and nothing will be called unknown" in made.reason


def test_a_protonet_is_adapted_by_class_means_by_default(
    init: Initialization, few_support: SupportSet, tmp_path: Path
) -> None:
    made = fresh(with_algorithm(init.recipe, "protonet"), 0, init.provenance)
    assert compare_and_adapt({"it": made}, few_support).classifier.config.method == "prototypes"
    drawings = draw_folder(tmp_path / "in")
    assert {trial.method for trial in adapt(made, drawings).config.comparison} == {"prototypes", "probe"}
    assert adapt(made, drawings, steps=2, reject_rate=None).config.method == "reptile"
    means, none = (
        adapt(made, drawings, method=method, steps=0, reject_rate=None) for method in ("prototypes", "reptile")
    )
    for name, tensor in means.params.items():
        assert torch.equal(tensor, none.params[name]), name  # without steps the class means stay


@pytest.fixture
def few_support() -> SupportSet:
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), np.uint8)
    return SupportSet(labels=("a", "b", "c"), images=images, targets=np.arange(3))
