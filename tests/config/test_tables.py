"""The tables of backbones, algorithms and data sets: every row is checked, and a toy of each goes all the way."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from torch.func import functional_call

from fewshot_sdk import Predictor, adapt, export_learner, export_onnx, load, meta_train, open_dataset, save
from fewshot_sdk.algorithms import ALGORITHMS, known
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.backbones import BACKBONES, BackboneSettings, Timm
from fewshot_sdk.config.datasets import DATASETS
from fewshot_sdk.config.onnx_file import OUTPUT, PIXELS
from fewshot_sdk.config.presets import preset, with_algorithm
from fewshot_sdk.config.recipe import DataSource, Recipe
from fewshot_sdk.config.recipe_files import recipe_text
from fewshot_sdk.config.recipe_settings import recipe_from
from fewshot_sdk.config.regression import NUMBER_PRESETS, by_algorithm
from fewshot_sdk.data.opening import data_source, held_out
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.errors import ConfigError, DataError, ExportError
from fewshot_sdk.graphs.classifier import network_graph
from fewshot_sdk.nets.network import build_network, random_params
from fewshot_sdk.nets.norm_statistics import norm_statistics
from fewshot_sdk.storage.files import read_folder
from fewshot_sdk.tables import referred
from tests.conftest import tiny_recipe
from tests.toys import halfway_row, stamp_settings, stripes_row
from tests.toys.stamp_settings import Stamp

REFERENCES = sorted(
    {
        value
        for table in (BACKBONES, ALGORITHMS, DATASETS)
        for row in table.values()
        for value in vars(row).values()
        if isinstance(value, str) and value.startswith("fewshot_sdk.")
    }
)
OURS = [kind for kind in BACKBONES if kind != "timm"]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy row in each table."""
    monkeypatch.setitem(BACKBONES, "stamp", stamp_settings.ROW)
    monkeypatch.setitem(ALGORITHMS, "halfway", halfway_row.ROW)
    monkeypatch.setitem(DATASETS, "stripes", stripes_row.ROW)


def toy_recipe(**changes: object) -> Recipe:
    """A recipe with all three toys, and two outer steps."""
    small = tiny_recipe(preset="toy", backbone=Stamp(), data=data_source("stripes"))
    return with_algorithm(small, "halfway").replace(**changes)


def toy() -> Initialization:
    recipe = toy_recipe()
    data = open_dataset(recipe.data, recipe.preprocessing, "train")
    *_, last = meta_train(recipe, TaskSampler(data=data, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot))
    return last.initialization


@pytest.mark.parametrize("reference", REFERENCES)
def test_what_a_row_refers_to_is_there(reference: str) -> None:
    assert callable(referred(reference))


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_backbone_says_what_it_is_and_survives_being_written_down(kind: str) -> None:
    backbone = Timm(name="resnet10t") if kind == "timm" else BACKBONES[kind].settings(kind=kind)
    assert backbone.described()
    assert {each.kind for each in backbone.for_features()} == {kind}
    recipe = tiny_recipe(backbone=backbone)
    assert Recipe.from_json(recipe.model_dump_json()) == recipe
    assert Recipe(**recipe.model_dump()).backbone == backbone


@pytest.mark.parametrize("kind", OURS)
def test_a_backbones_settings_tell_the_truth_about_its_network(kind: str) -> None:
    backbone: BackboneSettings = BACKBONES[kind].settings(kind=kind)
    network = build_network(backbone, tiny_recipe().preprocessing, 3)
    frozen = {name for name, _ in network.named_buffers() if name.rpartition(".")[2] in ("mean", "var")}
    assert frozen - {"pixels.mean"} == set(backbone.norm_buffers())
    images = torch.randint(0, 256, (6, 16, 16, 1), dtype=torch.uint8)
    params = {name: tensor.detach() for name, tensor in network.named_parameters()}
    together, alone = (functional_call(network, params, (some,)) for some in (images, images[:2]))
    assert torch.allclose(together[:2], alone, atol=1e-5) == backbone.judges_alone


@pytest.mark.parametrize("kind", OURS)
def test_a_backbones_nodes_say_what_its_network_says(kind: str) -> None:
    backbone, preprocessing = BACKBONES[kind].settings(kind=kind).for_features()[0], tiny_recipe().preprocessing
    network = build_network(backbone, preprocessing, 3)
    images = torch.randint(0, 256, (6, 16, 16, 1), dtype=torch.uint8)
    network.load_state_dict(random_params(network, 1) | norm_statistics(network, {}, images), strict=False)
    with torch.no_grad():
        expected = network.eval()(images).softmax(1).numpy()
        pixels = network.get_submodule("pixels")(images).numpy()
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    graph = network_graph(weights, backbone, preprocessing)
    found = InferenceSession(graph.SerializeToString()).run([OUTPUT], {PIXELS: pixels})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", OURS)
def test_a_backbone_is_pre_trained_exactly_where_its_row_says_so(kind: str) -> None:
    row = BACKBONES[kind]
    assert bool(row.pretraining_start) == bool(row.pretraining_end)
    pretraining = preset("mini-imagenet-residual").pretraining
    if row.pretraining_start:
        assert tiny_recipe(backbone=row.settings(kind=kind), pretraining=pretraining).pretraining == pretraining
        return
    with pytest.raises(ConfigError, match=f"expected a conv4 or residual network, found {kind}"):
        tiny_recipe(backbone=row.settings(kind=kind), pretraining=pretraining)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_preset_by_each_algorithm_is_as_its_row_says(algorithm: str) -> None:
    row, recipe = ALGORITHMS[algorithm], with_algorithm(preset("glyphs"), algorithm)
    assert recipe.meta.algorithm == algorithm
    assert recipe.meta.optimizer == (row.outer or "sgd")
    assert recipe.meta.tail_shots == (5 if row.keeps_half else 0)
    assert recipe.inner.trainable == (row.moves or "all")
    assert (recipe.head == "prototype") == (not row.takes_steps)
    if row.takes_steps:
        assert by_algorithm(NUMBER_PRESETS["sine"], algorithm).meta.algorithm == algorithm
    else:
        with pytest.raises(ConfigError, match=f"{algorithm} needs classes, and sine has none"):
            by_algorithm(NUMBER_PRESETS["sine"], algorithm)


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_has_its_splits_and_parts_and_no_others(name: str) -> None:
    row = DATASETS[name]
    for split in row.splits:
        assert DataSource(name=name, split=split).split == split
    with pytest.raises(ConfigError, match=f"{name} has the split {' or '.join(row.splits)}, found 'none'"):
        DataSource(name=name, split="none")
    assert bool(row.read) != bool(row.closed)
    if row.read:
        assert data_source(name).split == row.splits[0]
        assert held_out(data_source(name)) in row.parts
    if "val" not in row.parts:
        with pytest.raises(DataError, match=r"no validation classes|not available|several data sets"):
            open_dataset(DataSource(name=name, split=row.splits[0]), tiny_recipe().preprocessing, "val")


def test_a_mistyped_name_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"no algorithm 'mamle'; the algorithms are reptile, .*did you mean 'maml'\?"):
        known("mamle")
    with pytest.raises(ConfigError, match=r"no algorithm 'reptil'; .*did you mean 'reptile'\?"):
        tiny_recipe().meta.replace(algorithm="reptil")
    with pytest.raises(
        ConfigError, match=r"no backbone 'residul'; the backbones are conv4, .*did you mean 'residual'\?"
    ):
        tiny_recipe(backbone={"kind": "residul"})
    with pytest.raises(ConfigError, match=r"no data set 'omniglott'; .*did you mean 'omniglot'\?"):
        DataSource(name="omniglott", split="paper")
    with pytest.raises(DataError, match=r"no data set 'glyph'; .*did you mean 'glyphs'\?"):
        data_source("glyph")
    with pytest.raises(ConfigError, match=r"no preset 'omniglot-5wy'; .*did you mean 'omniglot-5way'\?"):
        preset("omniglot-5wy")


@pytest.mark.parametrize("wrong", ["conv4", {"filters": 4}, {"kind": 4}])
def test_a_backbone_without_a_kind_is_told_what_there_is(wrong: object) -> None:
    with pytest.raises(
        ConfigError, match="expected settings with a kind, one of conv4, mlp, residual, efficientnet, timm, embeddings"
    ):
        tiny_recipe(backbone=wrong)


def test_toys_go_down_the_whole_line(toys: None, drawings: Path, tmp_path: Path) -> None:
    trained = toy()
    folder = save(trained, tmp_path / "toy")
    again = load(folder)
    assert again.files() == trained.files()
    assert again.recipe.backbone == Stamp()
    text = recipe_text(again.recipe)
    assert "# Side of a square, in pixels. An integer of 1 or more; default 4.\nside = 4\n" in text
    assert recipe_from(tomllib.loads(text)) == again.recipe
    classifier = adapt(again, drawings, method="reptile")
    assert classifier.config.backbone == Stamp()
    exported = export_onnx(classifier, tmp_path / "toy.onnx")
    assert exported.metadata.parity.max_difference < 1e-4
    found = Predictor(tmp_path / "toy.onnx").probabilities(classifier.support.images)
    np.testing.assert_allclose(found, classifier.probabilities(classifier.support.images), atol=1e-4)


def test_a_toys_card_has_the_words_of_its_rows(toys: None, tmp_path: Path) -> None:
    card = read_folder(save(toy(), tmp_path / "toy"))["README.md"].decode()
    assert "A Halfway initialization" in card
    assert "stamps of 4 x 4 pixels, 6 filters; head" in card
    assert "| data | stripes of many directions, nobody's, split `drawn`" in card
    assert "It has seen stripes alone: expect it to tell stripes apart." in card


def test_a_toy_algorithm_is_a_training_of_its_own(toys: None) -> None:
    recipe = toy_recipe()
    assert (recipe.meta.optimizer, recipe.meta.step_size) == ("adam", 0.01)
    reptile = recipe.replace(meta=recipe.meta.replace(algorithm="reptile"))
    data = open_dataset(recipe.data, recipe.preprocessing, "train")
    tasks = TaskSampler(data=data, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot)
    ends = [next(meta_train(one, tasks)).initialization.state.updates for one in (recipe, reptile)]
    losses = [next(meta_train(one, tasks)).loss for one in (recipe, reptile)]
    assert ends[0] == ends[1]
    assert losses[0] != losses[1]
    with pytest.raises(ConfigError, match="halfway has no side-by-side form"):
        next(meta_train(recipe, tasks, device=torch.device("cpu")))


def test_a_toy_without_a_backward_pass_is_no_learner_and_not_pre_trained(toys: None, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"of the kind stamp .* is written for conv4, mlp and residual ones"):
        export_learner(toy(), tmp_path / "toy.onnx")
    with pytest.raises(ConfigError, match="expected a conv4 or residual network, found stamp"):
        toy_recipe(pretraining=preset("mini-imagenet-residual").pretraining)
