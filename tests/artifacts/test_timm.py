"""Models of the timm library, with random weights, from a Hub on the loopback interface."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fewshot_sdk import Predictor, adapt, load, load_classifier
from fewshot_sdk.adaptation.methods import Adapter
from fewshot_sdk.algorithms import Part
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import InnerLoop, Preprocessing, Timm
from fewshot_sdk.data import opening
from fewshot_sdk.data.tasks import Task, TaskSampler
from fewshot_sdk.engine.heads import open_head
from fewshot_sdk.engine.inner_loop import fine_tune, fine_tune_together, moving
from fewshot_sdk.errors import BundleError, ConfigError, DataError, HubError, MissingExtra
from fewshot_sdk.images.preprocessing import preprocess
from fewshot_sdk.meta.evaluation import evaluate
from fewshot_sdk.meta.second_order import meta_gradient
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.nets.params import flatten
from fewshot_sdk.nets.timm import library
from fewshot_sdk.testing.hub import LocalHub
from tests.conftest import Run, draw_folder, drawn_glyphs, stopped_after

if find_spec("timm") is None:
    pytest.skip("timm is not installed", allow_module_level=True)

CNN, VIT = "timm:test_resnet.r160_in1k", "timm:user/small-vit"
CONFIGS: dict[str, dict[str, Any]] = {
    CNN: {"input_size": (3, 40, 40), "interpolation": "bilinear", "crop_pct": 0.8, "mean": (0.5, 0.4, 0.3)},
    VIT: {"input_size": (3, 32, 32), "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "squash"},
}


def made(name: str, **arguments: object) -> nn.Module:
    """A timm model with random weights and random norm statistics."""
    torch.manual_seed(0)
    model: nn.Module = library().create_model(name, **arguments)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model.eval()


def files_of(model: nn.Module, config: dict[str, Any]) -> dict[str, bytes]:
    from timm.models import save_for_hf

    with tempfile.TemporaryDirectory() as folder:
        save_for_hf(model, folder, safe_serialization=True, data_config=config)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub() as hub, pytest.MonkeyPatch.context() as patch:
        for name, value in hub.environment.items():
            patch.setenv(name, value)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("timm")))
        patch.setenv("FEWSHOT_HUB_SECONDS", "20")
        hub.commit("timm/test_resnet.r160_in1k", dict(files_of(made("test_resnet"), CONFIGS[CNN])))
        hub.commit("user/small-vit", dict(files_of(made("test_vit", img_size=32), CONFIGS[VIT])))
        yield hub


@pytest.fixture(scope="module")
def cnn(hub: LocalHub) -> Initialization:
    return load(CNN)


def altered(hub: LocalHub, repository: str, **settings: object) -> str:
    """A copy of the CNN's repository with these changes in config.json."""
    files = hub.files("timm/test_resnet.r160_in1k")
    config = {**json.loads(files["config.json"]), **settings}
    hub.commit(repository, {**files, "config.json": json.dumps(config).encode()})
    return f"timm:{repository}"


@pytest.mark.parametrize(("name", "architecture"), [(CNN, "test_resnet"), (VIT, "test_vit")])
def test_its_features_are_timms_of_pictures_as_its_config_wants_them(
    hub: LocalHub, name: str, architecture: str
) -> None:
    init = load(name)
    ours, config = init.recipe.preprocessing, CONFIGS[name]
    assert (3, ours.height, ours.width) == config["input_size"]
    assert (ours.resize, ours.kept) == (config["interpolation"], config["crop_pct"])
    assert ours.fit == ("stretch" if "crop_mode" in config else "crop")
    arguments = {"img_size": 32} if name == VIT else {}
    theirs = made(architecture, **arguments)
    theirs.reset_classifier(0)  # type: ignore[operator]
    pixels = torch.randint(0, 256, (3, ours.height, ours.width, 3), dtype=torch.uint8)
    mean, std = torch.tensor(ours.mean), torch.tensor(ours.std)
    with torch.no_grad():
        wanted = theirs(((pixels / 255 - mean) / std).permute(0, 3, 1, 2))
        (found,) = Adapter(init, 2).features(pixels)[0]
    torch.testing.assert_close(found, nn.functional.normalize(wanted) * wanted.shape[1] ** 0.5, rtol=1e-3, atol=1e-4)


def test_pictures_are_cut_and_resized_as_timm_does_it(cnn: Initialization) -> None:
    from timm.data.transforms_factory import create_transform

    x, y = np.meshgrid(np.linspace(0, 3, 150), np.linspace(0, 2, 90))
    waves = np.stack([np.sin(x + y), np.cos(2 * x), np.sin(3 * y)], 2)
    picture = Image.fromarray((127.5 + 120 * waves).astype(np.uint8))
    transform = create_transform(**CONFIGS[CNN], std=(1, 1, 1))
    theirs = (transform(picture).permute(1, 2, 0).numpy() + np.array(CONFIGS[CNN]["mean"])) * 255
    ours = preprocess(picture, cnn.recipe.preprocessing)
    assert np.abs(theirs - ours).mean() < 2
    whole = preprocess(picture, cnn.recipe.preprocessing.replace(kept=1.0))
    assert np.abs(theirs - whole).mean() > 6  # so the test can fail


@pytest.mark.parametrize("name", [CNN, VIT])
def test_from_a_name_to_a_classifier_and_an_onnx_file_that_agree(
    hub: LocalHub, run: Run, name: str, tmp_path: Path
) -> None:
    drawings = draw_folder(tmp_path / "drawings")
    model, file = tmp_path / "model", tmp_path / "m.onnx"
    code, out, err = run("adapt", "--backbone", name, "--support", drawings, "--output", model, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert {trial["method"] for trial in said["comparison"]} == {"prototypes", "probe"}
    config = load_classifier(model).config
    assert config.initialization.source.startswith("timm:")
    assert len(config.initialization.source.partition("@")[2]) == 40
    code, _, err = run("export", model, "--output", file)
    assert code == 0, err
    assert b"/site-packages/" not in file.read_bytes()
    pictures = sorted(drawings.glob("*/*.png"))
    answers = [json.loads(run("predict", one, *pictures, "--json")[1]) for one in (model, file)]
    for torch_says, onnx_says in zip(*answers, strict=True):
        assert torch_says["label"] == onnx_says["label"]
        assert torch_says["probability"] == pytest.approx(onnx_says["probability"], abs=1e-4)
    assert run("export", model, "--output", tmp_path / "h.onnx", "--precision", "fp16")[0] == 1
    assert run("edit", file, "--drop", onnx_says["nearest"], "--threshold", 0.1)[0] == 0
    assert onnx_says["nearest"] not in Predictor(file).labels


def test_it_is_kept_as_a_delta_on_the_hubs_weights_and_extended(hub: LocalHub, run: Run, tmp_path: Path) -> None:
    drawings, model = draw_folder(tmp_path / "drawings"), tmp_path / "model"
    words = ("--backbone", CNN, "--support", drawings, "--method", "prototypes", "--reject-rate", 0)
    assert run("adapt", *words, "--delta", "float32", "--output", model)[0] == 0
    whole = adapt(load(CNN), drawings, method="prototypes", reject_rate=None)
    restored = load_classifier(model)
    assert all(torch.equal(tensor, whole.params[name]) for name, tensor in restored.params.items())
    draw_folder(tmp_path / "more", labels=("dog",), first=7)
    more = ("--extend", model, "--support", tmp_path / "more", "--backbone", CNN, "--output", tmp_path / "larger")
    code, _, err = run("adapt", *more)
    assert code == 0, err
    assert "adapted again to the old pictures and the new" in err
    assert load_classifier(tmp_path / "larger").labels == ("ant", "bee", "cat", "dog")


@pytest.mark.parametrize("part", ["all", "head", "body", "norm"])
def test_steps_move_the_part_that_they_are_told_to(cnn: Initialization, part: Part) -> None:
    network = build_network(cnn.recipe.backbone, cnn.recipe.preprocessing, 3)
    params = {name: tensor.detach() for name, tensor in network.named_parameters()}
    norms = {
        f"{name}.{what}"
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for what in ("weight", "bias")
    }
    head = {"head.weight", "head.bias"}
    assert norms
    wanted = {"all": set(params), "head": head, "body": set(params) - head, "norm": norms | head}
    assert set(moving(network, params, part)) == wanted[part]


def test_meta_training_on_top_moves_what_it_is_told_to_and_names_the_commit(
    hub: LocalHub, cnn: Initialization, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 12)
    words = ("--preset", "glyphs", "--backbone", CNN, "--trainable", "norm", "--meta-steps", 1, "--evaluate-every", 0)
    code, _, err = run("meta-train", *words, "--workers", 1, "--output", tmp_path / "init")
    assert code == 0, err
    trained = load(tmp_path / "init")
    assert isinstance(trained.recipe.backbone, Timm)
    assert f"--backbone {cnn.source}" in trained.provenance.command
    after = trained.state.params  # the mean over five tasks of an unmoved weight is off by rounding
    changed = {name for name, old in cnn.state.params.items() if not torch.allclose(old, after[name], 1e-6, 1e-7)}
    network = build_network(cnn.recipe.backbone, cnn.recipe.preprocessing, 3)
    assert changed <= set(moving(network, cnn.state.params, "norm"))
    assert "body.model.bn1.weight" in changed
    classifier = adapt(trained, draw_folder(tmp_path / "drawings"), steps=1, reject_rate=None)
    assert classifier.config.adaptation.trainable == "norm"


def test_training_goes_on_from_it_by_its_own_recipe_and_is_resumed_without_the_hub(
    hub: LocalHub, cnn: Initialization, run: Run, tmp_path: Path
) -> None:
    data = draw_folder(tmp_path / "classes", tuple("abcdefghijkl"))
    few = ("--set", "meta.k_shot=2", "--set", "inner.batch_size=5", "--meta-steps", 2, "--evaluate-every", 0)
    words = ("--init", CNN, "--data", data, *few, "--workers", 1)
    code, _, err = run("meta-train", *words, "--output", tmp_path / "whole")
    assert code == 0, err
    whole = load(tmp_path / "whole")
    assert (whole.recipe.backbone, whole.provenance.chain[0].source) == (cnn.recipe.backbone, cnn.source)
    assert whole.provenance.command == (
        f"fewshot meta-train --recipe recipe.toml --init {cnn.source} --data classes --seed 0"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewshot_sdk.meta.run.steps_left", stopped_after(1))
        assert run("meta-train", *words, "--output", tmp_path / "x")[0] != 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewshot_sdk.load", None)  # the checkpoint has all that it needs
        code, _, err = run("meta-train", *words, "--resume", "--output", tmp_path / "x")
    assert code == 0, err
    assert load(tmp_path / "x").sha256 == whole.sha256


def test_it_is_evaluated_like_any_initialization_but_on_data_that_is_named(
    cnn: Initialization, omniglot_root: Path, run: Run
) -> None:
    tasks = TaskSampler(data=drawn_glyphs(cnn.recipe, 6), n_way=3, k_shot=1, n_query=1)
    assert 0 <= evaluate(cnn, tasks, n_tasks=1, mode="frozen").accuracy <= 1
    with pytest.raises(DataError, match="the data that a timm model was trained on is not available"):
        opening.open_dataset(cnn.recipe.data, cnn.recipe.preprocessing, "test")
    code, out, err = run(
        "evaluate",
        CNN,
        "--data",
        "omniglot",
        "--root",
        omniglot_root,
        "--ways",
        2,
        "--tasks",
        2,
        "--baseline",
        "probe",
        "--json",
    )
    assert code == 0, err
    assert json.loads(out)["baseline"] == "probe"


def test_a_model_that_cannot_be_used_is_told_by_name(hub: LocalHub, cnn: Initialization, run: Run) -> None:
    with pytest.raises(ConfigError, match=r"has no weights on the Hub for 'test_resnett'.*it has test_resnet"):
        load("timm:test_resnett")
    with pytest.raises(ConfigError, match="cannot make resnet0 from it: Unknown model"):
        load(altered(hub, "user/unknown", architecture="resnet0"))
    with pytest.raises(ConfigError, match="not the network that its architecture's name alone gives"):
        load(altered(hub, "user/pooled", model_args={"global_pool": "max"}))
    with pytest.raises(ConfigError, match=r"cannot be used as a timm model.*architecture"):
        load(altered(hub, "user/nameless", architecture="../test_resnet"))
    with pytest.raises(ConfigError, match="no model 'resnet0'"):
        build_network(Timm(name="resnet0"), cnn.recipe.preprocessing, 2)
    assert run("adapt", "--backbone", "resnet10t", "--support", "x", "--output", "y")[0] == 2
    pickled = {name: data for name, data in hub.files("user/small-vit").items() if name == "config.json"}
    hub.commit("user/pickled", {**pickled, "pytorch_model.bin": b"never read"})
    with pytest.raises(HubError, match=r"model\.safetensors is missing; expected safetensors, because pickles"):
        load("timm:user/pickled")


def test_weights_that_lack_a_tensor_or_were_changed_are_refused(hub: LocalHub, tmp_path: Path) -> None:
    from fewshot_sdk.storage.hub_client import cache
    from fewshot_sdk.storage.tensors import from_safetensors, to_safetensors

    files = hub.files("timm/test_resnet.r160_in1k")
    tensors = from_safetensors(files["model.safetensors"], "it")
    fewer = {name: tensor for name, tensor in tensors.items() if name != "layer1.0.conv1.weight"}
    hub.commit("user/fewer", {**files, "model.safetensors": to_safetensors(fewer)})
    with pytest.raises(ConfigError, match=r"layer1\.0\.conv1\.weight is missing"):
        load("timm:user/fewer")
    hub.commit("user/flipped", dict(files))
    load("timm:user/flipped")
    (place,) = cache().glob("models--user--flipped/snapshots/*/model.safetensors")
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.resolve().write_bytes(data)
    with pytest.raises(BundleError, match="is damaged"):
        load("timm:user/flipped")
    load("timm:user/flipped")  # fetched again


def test_without_timm_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"timm models need timm; pip install 'fewshot-sdk\[timm\]'"):
        build_network(Timm(name="resnet10t"), Preprocessing(height=32, width=32, channels=3, resize="bilinear"), 2)


@pytest.mark.parametrize("name", [CNN, VIT])
def test_steps_side_by_side_are_those_one_after_the_other_and_have_second_derivatives(hub: LocalHub, name: str) -> None:
    init = load(name)
    recipe = init.recipe
    network = build_network(recipe.backbone, recipe.preprocessing, 2)
    start, size = open_head(init.state, "zero", network), recipe.preprocessing.height
    images = torch.randint(0, 256, (2, 4, size, size, 3), dtype=torch.uint8)
    labels, batches = torch.tensor([[0, 0, 1, 1]] * 2), torch.tensor([[[0, 2]], [[1, 3]]])
    inner = InnerLoop(optimizer="sgd", learning_rate=0.01, batch_size=2, steps=1)
    together, _ = fine_tune_together(network, start, images, labels, batches, inner, torch.device("cpu"))
    for task in range(2):
        alone, _ = fine_tune(network, start, images[task], labels[task], batches[task], inner)
        torch.testing.assert_close(together[task], flatten(alone), rtol=1e-4, atol=1e-5)
    meta = recipe.meta.replace(algorithm="maml", n_way=2, k_shot=2, tail_shots=1)
    support = {"support": images[0], "support_labels": labels[0]}
    one = Task(n_way=2, **support, query=images[0], query_labels=labels[0], seed=(0,))
    loops = inner.replace(steps=2)
    gradient, _ = meta_gradient(network, init.state, one, loops, meta, "zero")
    assert all(torch.isfinite(tensor).all() for tensor in gradient.values())
