"""Steps on features that are computed once, the limit for `unknown` found with them, and learners built on the spot."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from fewshot_sdk import Learner, Predictor, adapt, adapt_to_onnx, export_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.recipe import Preprocessing, Residual
from fewshot_sdk.errors import ExportError, ParamsMismatch
from fewshot_sdk.export.learner import learner_bytes, made_up_task
from fewshot_sdk.runtime.learners import learner_file
from fewshot_sdk.runtime.steps import Steps
from tests.cli.test_start_up import shell
from tests.conftest import draw_folder, means_recipe

COLOUR = Preprocessing(height=24, width=24, channels=3, resize="box")


@pytest.fixture(scope="module")
def means(init: Initialization) -> Initialization:
    return fresh(means_recipe(COLOUR), 0, init.provenance)


@pytest.fixture(scope="module")
def learner(means: Initialization) -> Learner:
    return Learner(learner_bytes(means))


@pytest.mark.parametrize("change", ["no opset", "no weights", "no end"])
def test_a_learner_that_cannot_be_taken_apart_is_of_another_make(learner: Learner, change: str) -> None:
    model = onnx.load_from_string(learner.data)
    if change == "no opset":
        del model.opset_import[:]
        model.opset_import.add(domain="a", version=1)
    elif change == "no weights":
        del model.graph.initializer[:]
    other = copy.copy(learner)
    other.data = model.SerializeToString()[: -1 if change == "no end" else None]
    with pytest.raises(ExportError, match="of another make"):
        Steps(other)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_steps_on_features_give_the_answers_of_the_learner(learner: Learner, steps: int) -> None:
    images, targets, queries = made_up_task(COLOUR, 3, 3, 5, seed=1)
    parts = Steps(learner)
    head = parts.head(parts.features(images), targets, steps=steps, seed=4)
    wanted = learner.adapt(images, targets, queries, steps=steps, seed=4)
    np.testing.assert_allclose(head.weight, wanted.tensors["head.weight"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(head.bias, wanted.tensors["head.bias"], rtol=0, atol=1e-5)
    logits = head.logits(parts.features(queries))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), wanted.probabilities, rtol=0, atol=1e-5)


def test_the_temperature_and_the_limit_are_those_of_adapt(
    means: Initialization, learner: Learner, tmp_path: Path
) -> None:
    folder = draw_folder(tmp_path / "in", tuple("abcd"), shots=5)
    theirs = adapt(means, folder, method="prototypes")
    export_onnx(theirs, tmp_path / "theirs.onnx")
    made = adapt_to_onnx(learner, folder, tmp_path / "ours.onnx", steps=0).metadata
    assert theirs.config.least_score is not None
    assert made.least_score == pytest.approx(theirs.config.least_score, abs=1e-5)
    assert made.score == "cosine"
    pictures = sorted(draw_folder(tmp_path / "new", tuple("abcdefgh"), shots=3, first=5).glob("*/*.png"))
    ours, wanted = (Predictor(tmp_path / name).predict(pictures) for name in ("ours.onnx", "theirs.onnx"))
    assert [one.label for one in ours] == [one.label for one in wanted]
    for one, other in zip(ours, wanted, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def test_a_learner_built_on_the_spot_is_the_exported_one(
    means: Initialization, init: Initialization, tmp_path: Path
) -> None:
    for each in (means, init):
        built, exported = learner_file(save(each, tmp_path / each.recipe.head)), learner_bytes(each)
        one, other = (Learner(data).metadata for data in (built, exported))
        assert one.parity.images == 0
        assert one.replace(parity=other.parity, noise_floor=other.noise_floor, versions=other.versions) == other
        task = made_up_task(each.recipe.preprocessing, 3, 2, 4, seed=0)
        ours, theirs = (Learner(data).adapt(*task, steps=2) for data in (built, exported))
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
        assert ours.tensors.keys() == theirs.tensors.keys()


def test_weights_that_are_not_the_networks_are_refused(means: Initialization, tmp_path: Path) -> None:
    other = replace(means, recipe=means.recipe.replace(backbone=Residual(widths=(8, 16, 16))))
    with pytest.raises(ParamsMismatch, match="its tensors do not fit its settings"):
        learner_file(save(other, tmp_path / "init"))


def test_adapting_from_a_name_needs_no_pytorch(means: Initialization, tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "in", tuple("abc"), shots=4)
    words = ["adapt", "--engine", "onnx", "--init", save(means, tmp_path / "init"), "--support", folder]
    done = shell(
        "-X", "importtime", "-m", "fewshot_cli.main", *map(str, words), "--output", "m.onnx", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["least_score"] == Predictor(tmp_path / "m.onnx").metadata.least_score is not None
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "onnxruntime" in imported
    assert not imported & {"torch", "onnxscript", "huggingface_hub"}
