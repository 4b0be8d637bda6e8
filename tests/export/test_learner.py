from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fewshot_sdk import Learner, Predictor, adapt, adapt_to_onnx, export_learner, export_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.presets import with_algorithm
from fewshot_sdk.config.recipe import Conv4, EfficientNet, Mlp, Preprocessing, Recipe, Residual, Timm
from fewshot_sdk.engine.heads import begin, open_head
from fewshot_sdk.engine.inner_loop import fine_tune, loss_and_grads
from fewshot_sdk.errors import BundleError, ConfigError, ExportError, OutputExists, SupportError
from fewshot_sdk.export import learner as learner_export
from fewshot_sdk.export.learner import in_pytorch, made_up_task
from fewshot_sdk.graphs.learner.graph import learner_graph
from fewshot_sdk.graphs.versions import OPSET
from fewshot_sdk.nets.network import build_network
from fewshot_sdk.nets.params import LearnerState
from tests.cli.test_start_up import shell
from tests.conftest import Run, draw_folder, tiny_recipe

TINY = tiny_recipe()
COLOUR = Preprocessing(height=11, width=14, channels=3, resize="box", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
SGD = TINY.adaptation.replace(optimizer="sgd", learning_rate=0.05)
RECIPES: dict[str, Recipe] = {
    "stride, zero head, Adam": TINY,
    "stride, dense head, mini-batches": tiny_recipe(head="dense", adaptation=TINY.adaptation.replace(batch_size=4)),
    "stride, dense head, mini-batches, sums": tiny_recipe(
        head="dense", adaptation=TINY.adaptation.replace(batch_size=4, loss_divisor=2)
    ),
    "pool, colours, dense head": tiny_recipe(
        preprocessing=COLOUR, backbone=Conv4(filters=5, downsample="pool"), head="dense"
    ),
    "pool, zero head, SGD, mini-batches": tiny_recipe(
        preprocessing=COLOUR,
        backbone=Conv4(filters=3, downsample="pool", norm_epsilon=1e-5),
        inner=TINY.inner.replace(optimizer="sgd"),
        adaptation=SGD.replace(batch_size=4),
    ),
    "residual, zero head, Adam, odd sizes": tiny_recipe(preprocessing=COLOUR, backbone=Residual(widths=(4, 5, 6))),
    "residual, dense head, SGD, mini-batches": tiny_recipe(
        backbone=Residual(widths=(4, 6)),
        head="dense",
        inner=TINY.inner.replace(optimizer="sgd"),
        adaptation=SGD.replace(batch_size=4),
    ),
    "stride, group norm, Adam, mini-batches": tiny_recipe(
        preprocessing=COLOUR, backbone=Conv4(filters=16, norm="group"), adaptation=TINY.adaptation.replace(batch_size=4)
    ),
    "pool, group norm, dense head, SGD": tiny_recipe(
        preprocessing=COLOUR,
        backbone=Conv4(filters=8, downsample="pool", norm="group"),
        head="dense",
        inner=TINY.inner.replace(optimizer="sgd"),
        adaptation=SGD,
    ),
    "stride, no norm, zero head, Adam": tiny_recipe(backbone=Conv4(filters=6, norm="none")),
    "pool, no norm, dense head, mini-batches": tiny_recipe(
        preprocessing=COLOUR,
        backbone=Conv4(filters=5, downsample="pool", norm="none"),
        head="dense",
        adaptation=TINY.adaptation.replace(batch_size=4),
    ),
    "fully connected, batch norm, Adam": tiny_recipe(preprocessing=COLOUR, backbone=Mlp(widths=(12, 9))),
    "fully connected, group norm, dense head, SGD, mini-batches": tiny_recipe(
        backbone=Mlp(widths=(24, 16, 8), norm="group"),
        head="dense",
        inner=TINY.inner.replace(optimizer="sgd"),
        adaptation=SGD.replace(batch_size=4),
    ),
    "fully connected, no norm, Adam, mini-batches": tiny_recipe(
        backbone=Mlp(widths=(7,), norm="none"), adaptation=TINY.adaptation.replace(batch_size=4)
    ),
    "EfficientNet, zero head, SGD on the head, mini-batches": tiny_recipe(
        preprocessing=COLOUR.replace(height=33, width=32),
        backbone=EfficientNet(),
        inner=TINY.inner.replace(optimizer="sgd"),
        adaptation=SGD.replace(batch_size=4, learning_rate=0.01, trainable="head"),
    ),
    "EfficientNet, class means, SGD on the head": with_algorithm(
        tiny_recipe(
            preprocessing=COLOUR.replace(height=32, width=32),
            backbone=EfficientNet(summary="statistics"),
            inner=TINY.inner.replace(optimizer="sgd"),
            adaptation=SGD.replace(learning_rate=0.01),
        ),
        "protonet",
    ).replace(adaptation=SGD.replace(learning_rate=0.01, trainable="head")),
    "residual, dense head, Adam on the head": tiny_recipe(
        preprocessing=COLOUR,
        backbone=Residual(widths=(4, 5)),
        head="dense",
        adaptation=TINY.adaptation.replace(trainable="head"),
    ),
    "stride, odd sizes, Adam that forgets at once": tiny_recipe(
        preprocessing=COLOUR, inner=TINY.inner.replace(beta2=0.5), adaptation=TINY.adaptation.replace(beta2=0.5)
    ),
}


def learned(recipe: Recipe, init: Initialization) -> Initialization:
    """Random weights and, as after meta-training, second moments that are not zero."""
    made = fresh(recipe, 3, init.provenance)
    generator = torch.Generator().manual_seed(4)
    moments = {
        name: torch.rand(moment.shape, generator=generator) * 1e-2 + 1e-4
        for name, moment in made.state.second_moments.items()
    }
    return replace(made, state=LearnerState(params=made.state.params, second_moments=moments, updates=40))


@pytest.fixture(scope="module", params=list(RECIPES.values()), ids=list(RECIPES))
def pair(
    request: pytest.FixtureRequest, init: Initialization, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Initialization, Learner]:
    made = learned(request.param, init)
    return made, Learner(export_learner(made, tmp_path_factory.mktemp("learner") / "learner.onnx").path)


@pytest.fixture(scope="module")
def file(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_learner(init, tmp_path_factory.mktemp("learner") / "learner.onnx").path


@pytest.mark.parametrize("transductive", [False, True])
@pytest.mark.parametrize(
    ("n_way", "k_shot", "n_query", "steps"), [(2, 1, 2, 0), (5, 1, 3, 1), (3, 2, 2, 2), (7, 1, 9, 6), (4, 3, 5, 15)]
)
def test_it_agrees_with_pytorch_in_float64(
    pair: tuple[Initialization, Learner], n_way: int, k_shot: int, n_query: int, steps: int, transductive: bool
) -> None:
    init, learner = pair
    task = made_up_task(init.recipe.preprocessing, learner.metadata.n_way or n_way, k_shot, n_query, seed=steps + 50)
    found = learner.adapt(*task, steps=steps, transductive=transductive).probabilities
    exact, rounded = (in_pytorch(init, *task, steps, transductive, kind) for kind in (torch.float64, torch.float32))
    floor = np.abs(rounded - exact).max()
    np.testing.assert_allclose(found, exact, rtol=0, atol=max(1e-5 if steps < 2 else 1e-4, 10 * floor))


def test_no_step_leaves_the_weights_alone(pair: tuple[Initialization, Learner]) -> None:
    init, learner = pair
    task = made_up_task(init.recipe.preprocessing, 5, 1, 2, seed=0)
    tensors = learner.adapt(*task, steps=0).tensors
    for name, tensor in init.state.params.items():
        np.testing.assert_array_equal(tensors[name], tensor.numpy())
    if init.recipe.head == "zero":
        np.testing.assert_allclose(learner.adapt(*task, steps=0).probabilities, 1 / 5)


def test_one_step_of_sgd_is_the_rate_times_the_gradient(init: Initialization) -> None:
    made = learned(RECIPES["pool, zero head, SGD, mini-batches"].replace(adaptation=SGD), init)
    learner = Learner(learner_export.learner_bytes(made))
    task = made_up_task(COLOUR, 3, 2, 1, seed=1)
    end = learner.adapt(*task, steps=1, learning_rate=0.1).tensors
    network = build_network(made.recipe.backbone, COLOUR, 3)
    start = open_head(made.state, "zero", network).params
    _, gradients = loss_and_grads(network, start, torch.from_numpy(task[0]), torch.from_numpy(task[1]))
    for name, gradient in gradients.items():
        np.testing.assert_allclose(end[name], start[name] - 0.1 * gradient, rtol=0, atol=2e-6, err_msg=name)


def test_steps_of_a_protonet_begin_at_class_means(init: Initialization) -> None:
    """As `begin` and `fine_tune` do."""
    made = learned(RECIPES["EfficientNet, class means, SGD on the head"], init)
    learner, recipe = Learner(learner_export.learner_bytes(made)), made.recipe
    images, targets, queries = made_up_task(recipe.preprocessing, 3, 2, 1, seed=1)
    network = build_network(recipe.backbone, recipe.preprocessing, 3)
    support, labels = torch.from_numpy(images), torch.from_numpy(targets)
    start = begin(network, open_head(made.state, "prototype", network), "prototype", support, labels)
    batches = torch.arange(6).expand(4, 6)
    for steps in (0, 4):
        end, _ = fine_tune(network, start, support, labels, batches[:steps], recipe.adaptation)
        found = learner.adapt(images, targets, queries, steps=steps).tensors
        for name in ("head.weight", "head.bias"):
            np.testing.assert_allclose(found[name], end.params[name], rtol=0, atol=1e-5, err_msg=name)


def test_class_means_have_no_moments_for_adam_to_start_with(init: Initialization) -> None:
    recipe = RECIPES["EfficientNet, class means, SGD on the head"]
    loops = (loop.replace(optimizer="adam") for loop in (recipe.inner, recipe.adaptation))
    made = learned(recipe.replace(**dict(zip(("inner", "adaptation"), loops, strict=True))), init)
    with pytest.raises(ExportError, match="cannot be exported as a learner"):
        learner_graph(made.recipe, made.state)


def test_a_protonet_takes_no_steps_by_default(init: Initialization) -> None:
    recipe = RECIPES["EfficientNet, class means, SGD on the head"]
    made = learned(recipe, init)
    learner = Learner(learner_export.learner_bytes(made))
    task = made_up_task(recipe.preprocessing, 3, 2, 4, seed=1)
    np.testing.assert_array_equal(learner.adapt(*task).probabilities, learner.adapt(*task, steps=0).probabilities)


def test_the_file_is_plain_onnx_and_names_its_origin(file: Path, init: Initialization) -> None:
    model = onnx.load(str(file), load_external_data=False)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET}
    assert [entry.name for entry in model.graph.input][:5] == [
        "support", "labels", "queries", "steps", "learning_rate",
    ]  # fmt: skip
    known = Learner(file).metadata
    assert known.initialization.sha256 == init.sha256
    assert known.n_way is None
    assert known.parity.max_difference <= max(1e-4, 10 * known.noise_floor)


def test_an_export_that_disagrees_is_not_kept(
    init: Initialization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(init, recipe=init.recipe.replace(adaptation=init.recipe.adaptation.replace(beta2=0.5)))
    monkeypatch.setattr(learner_export, "learner_graph", lambda *_: learner_graph(other.recipe, other.state))
    with pytest.raises(ExportError, match=r"disagree after \d+ steps, \d+ pictures per class: .* no file was written"):
        export_learner(init, tmp_path / "learner.onnx")
    assert list(tmp_path.iterdir()) == []


def test_unusable_support_sets_and_settings_are_refused(file: Path) -> None:
    learner = Learner(file)
    images, targets, queries = made_up_task(TINY.preprocessing, 3, 1, 2, seed=0)
    with pytest.raises(ConfigError, match="steps: expected 0 or more, found -1"):
        learner.adapt(images, targets, queries, steps=-1)
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="learning rate: expected a number above 0"):
            learner.adapt(images, targets, queries, learning_rate=rate)
    with pytest.raises(SupportError, match=r"queries: expected uint8 \(1 or more, 16, 16, 1\), found float32"):
        learner.adapt(images, targets, queries.astype(np.float32))
    with pytest.raises(SupportError, match="support images: expected uint8"):
        learner.adapt(images[:, :15], targets, queries)
    with pytest.raises(SupportError, match=r"targets: expected int64 \(3,\), found int64 \(2,\)"):
        learner.adapt(images, targets[:2], queries)
    with pytest.raises(SupportError, match="class 1 of 3 is absent from the support set"):
        learner.adapt(images, np.array([0, 2, 2]), queries)
    with pytest.raises(SupportError, match="class 1 of 1000000000000001 is absent from the support set"):
        learner.adapt(images, np.array([0, 0, 10**15]), queries)
    with pytest.raises(ConfigError, match="targets: expected classes from 0"):
        learner.adapt(images, targets - 1, queries)


def test_a_dense_head_refuses_another_number_of_classes(init: Initialization) -> None:
    learner = Learner(learner_export.learner_bytes(fresh(tiny_recipe(head="dense"), 0, init.provenance)))
    with pytest.raises(SupportError, match="class 3 of 5 is absent"):
        learner.adapt(*made_up_task(TINY.preprocessing, 3, 1, 1, seed=0))
    with pytest.raises(ConfigError, match="expected classes from 0 to 4, found 0 to 5"):
        learner.adapt(*made_up_task(TINY.preprocessing, 6, 1, 1, seed=0))


def test_adapting_by_onnx_gives_the_classifier_that_pytorch_gives(
    init: Initialization, file: Path, drawings: Path, tmp_path: Path
) -> None:
    made = adapt_to_onnx(file, drawings, tmp_path / "a.onnx", seed=2)
    export_onnx(adapt(init, drawings, seed=2, method="reptile", reject_rate=None), tmp_path / "b.onnx")
    ours, theirs = Predictor(tmp_path / "a.onnx"), Predictor(tmp_path / "b.onnx")
    for part in ("format", "labels", "preprocessing", "adaptation", "initialization", "opset"):
        assert getattr(ours.metadata, part) == getattr(theirs.metadata, part)
    held_out = sorted(draw_folder(tmp_path / "new", first=4).glob("*/*.png"))
    pictures = [*sorted(drawings.glob("*/*.png")), *held_out]
    for left, right in zip(ours.predict(pictures), theirs.predict(pictures), strict=True):
        assert left.label == right.label
        assert left.probabilities == pytest.approx(right.probabilities, abs=5e-3)
    assert (made.images, made.metadata.parity.images) == (12, 12)


def test_a_network_without_a_written_backward_pass_is_refused_by_name(init: Initialization, tmp_path: Path) -> None:
    other = init.recipe.replace(backbone=Timm(name="resnet10t"))
    with pytest.raises(
        ExportError, match="a network of the kind timm cannot be exported as a learner: the backward pass"
    ):
        export_learner(replace(init, recipe=other), tmp_path / "learner.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_classifier_adapted_by_onnx_agrees_with_the_learner(
    pair: tuple[Initialization, Learner], tmp_path: Path
) -> None:
    _, learner = pair
    folder = draw_folder(tmp_path / "in", tuple("abcde"), shots=2)
    made = adapt_to_onnx(learner, folder, tmp_path / "m.onnx", steps=4)
    assert made.metadata.parity.max_difference <= 1e-5
    assert made.metadata.adaptation.steps == 4


def test_the_shell_adapts_without_pytorch(run: Run, init: Initialization, drawings: Path, tmp_path: Path) -> None:
    learner, model = tmp_path / "learner.onnx", tmp_path / "model.onnx"
    code, out, err = run("export-learner", save(init, tmp_path / "init"), "--output", learner, "--json")
    assert (code, json.loads(out)["bytes"]) == (0, learner.stat().st_size)
    assert f"next: fewshot adapt --engine onnx --init {learner}" in err
    words = ["adapt", "--engine", "onnx", "--init", learner, "--support", drawings, "--output", model, "--json"]
    done = shell("-X", "importtime", "-m", "fewshot_cli.main", *map(str, words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == ["ant", "bee", "cat"]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "onnxruntime" in imported
    assert not imported & {"torch", "onnxscript", "huggingface_hub", "safetensors"}
    code, out, _ = run("predict", model, drawings / "ant" / "0.png", "--json")
    assert json.loads(out)[0]["label"] in ("ant", "bee", "cat")


def test_bad_input_gives_one_sentence_and_writes_nothing(run: Run, file: Path, drawings: Path, tmp_path: Path) -> None:
    junk, other, output = tmp_path / "junk.onnx", tmp_path / "other.onnx", tmp_path / "model.onnx"
    junk.write_bytes(b"not a model")
    model = onnx.load(str(file))
    del model.metadata_props[:]
    onnx.save(model, str(other))
    classifier = adapt_to_onnx(file, drawings, tmp_path / "classifier.onnx").path
    bad = draw_folder(tmp_path / "bad")
    (bad / "ant" / "9.png").write_bytes(b"no picture")
    for init, support, message in (
        ("auto", drawings, "name what to start from: --init photo for photographs"),
        (junk, drawings, "is not an ONNX file; expected one made by"),
        (other, drawings, "not one made by `fewshot export-learner`"),
        (classifier, drawings, "is a classifier already, not a learner; make one with `fewshot export-learner`"),
        (file, tmp_path / "nowhere", "there is no such folder"),
        (file, bad, "9.png is not a picture"),
    ):
        words = ("adapt", "--engine", "onnx", "--init", init, "--support", support, "--output", output)
        code, out, err = run(*words)
        assert (code, out) == (1, "")
        assert message in err
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1
        assert not output.exists()
    words = ("adapt", "--engine", "onnx", "--init", file, "--support", drawings, "--output", classifier)
    assert "exists already" in run(*words)[2]
    assert run(*words, "--steps", -1)[0] == 2


def test_an_output_in_the_way_is_left_alone(init: Initialization, tmp_path: Path) -> None:
    (tmp_path / "l.onnx").write_bytes(b"mine")
    with pytest.raises(OutputExists):
        export_learner(init, tmp_path / "l.onnx")
    with pytest.raises(BundleError, match="no such file"):
        Learner(tmp_path / "nowhere.onnx")
    assert (tmp_path / "l.onnx").read_bytes() == b"mine"


def test_a_network_that_judges_alone_is_no_learner_if_its_steps_move_all_of_it_and_no_backward_pass_is_written(
    init: Initialization, tmp_path: Path
) -> None:
    recipe = RECIPES["EfficientNet, zero head, SGD on the head, mini-batches"]
    for other, message in (
        (recipe.replace(adaptation=recipe.adaptation.replace(trainable="all")), "of the kind efficientnet cannot be"),
        (TINY.replace(adaptation=TINY.adaptation.replace(trainable="head")), "the head alone of a network that judges"),
    ):
        with pytest.raises(ExportError, match=message):
            export_learner(replace(init, recipe=other), tmp_path / "learner.onnx")


def test_a_learner_of_the_head_stores_the_body_once(init: Initialization) -> None:
    made = learned(RECIPES["EfficientNet, zero head, SGD on the head, mini-batches"], init)
    weights = sum(tensor.numel() for tensor in made.state.params.values())
    assert len(learner_graph(made.recipe, made.state).SerializeToString()) < 4 * weights + 100_000
