"""Adapted classifiers as their difference from the initialization."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_sdk import Classifier, Delta, DeltaPredictor, adapt, export_onnx, load_classifier, save
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.recipe import Backbone, Conv4, Mlp, Residual
from fewshot_sdk.config.records import Method, Precision
from fewshot_sdk.errors import BundleError, ConfigError, ParamsMismatch
from fewshot_sdk.runtime.lineage import lineage
from fewshot_sdk.storage.deltas import SCALE, STEP, Arrays, difference, restored
from fewshot_sdk.storage.files import read_folder, write_folder
from fewshot_sdk.storage.tensors import from_bytes, to_bytes
from tests.conftest import Run, draw_folder, tiny_recipe

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")


@pytest.fixture
def classifier(init: Initialization, drawings: Path) -> Classifier:
    return adapt(init, drawings, steps=5, reject_rate=None)


def weights(seed: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Numbers of every size, zeros of both signs among them."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.choice([-1, 1], shape) * 10.0 ** rng.uniform(-30, 3, shape) * rng.integers(0, 2, shape)).astype("f4")
        for name, shape in {"conv1.weight": (4, 1, 3, 3), "conv1.bias": (4,), "norm1.bias": (4,)}.items()
    }


def test_fast_and_slow_weights_recombine_bit_for_bit() -> None:
    """Adding and subtracting floats would not: 1 + (1e-30 - 1) is 0. Differences of bit patterns do."""
    slow, adapted = weights(0), weights(1)
    assert any((slow[n] + (adapted[n] - slow[n])).tobytes() != adapted[n].tobytes() for n in slow)
    fast = difference(adapted, slow, "float32")
    again = restored(fast, slow, "float32", "it")
    assert {name: array.tobytes() for name, array in again.items()} == {n: a.tobytes() for n, a in adapted.items()}
    assert difference(slow, slow, "float32") == {}


def test_finite_numbers_that_make_weights_infinite_are_refused() -> None:
    steps: Arrays = {"a": np.full((1, 2), 127, np.int8), f"a{SCALE}": np.full(1, 3e38, np.float32)}
    with pytest.raises(ParamsMismatch, match="it: with 'a', weights are no longer finite; adapt again"):
        restored(steps, {"a": np.zeros((1, 2), np.float32)}, "int8", "it")


@pytest.mark.parametrize("method", ["reptile", "prototypes", "probe"])
def test_a_float32_delta_is_the_classifier_itself(
    init: Initialization, drawings: Path, tmp_path: Path, method: Method
) -> None:
    whole = adapt(init, drawings, method=method, reject_rate=0.1)
    folder = save(Delta(classifier=whole, base=init, precision="float32"), tmp_path / "delta")
    again = load_classifier(folder, init)
    assert again.files() == whole.files()
    if method != "reptile":
        changed = from_bytes((folder / STEP).read_bytes(), "it")
        assert not any(name.startswith("conv") for name in changed), "only the head is new"


@pytest.mark.parametrize(("precision", "steps"), [("float16", 2**-11), ("int8", 0.5 / 127)])
def test_a_rounded_delta_is_off_by_at_most_half_a_step(
    init: Initialization, classifier: Classifier, precision: Precision, steps: float
) -> None:
    before = {name: tensor.numpy() for name, tensor in init.state.params.items()}
    files = Delta(classifier=classifier, base=init, precision=precision).files()
    after = restored(from_bytes(files[STEP], "it"), before, precision, "it")
    for name, tensor in classifier.params.items():
        start = before.get(name, np.zeros(tensor.shape, np.float32))
        step = np.abs(tensor.numpy() - start)
        largest = step.max() if precision == "float16" or step.ndim == 1 else step.reshape(len(step), -1).max(1)
        allowed = np.broadcast_to(np.max(largest), step.shape) if step.ndim == 1 else None
        if allowed is None:
            allowed = np.broadcast_to(np.reshape(largest, (-1, *[1] * (step.ndim - 1))), step.shape)
        assert (np.abs(after[name] - tensor.numpy()) <= steps * allowed + 1e-6 * np.abs(tensor.numpy()) + 1e-7).all()


def test_a_delta_is_as_small_as_its_precision_says(init: Initialization, drawings: Path) -> None:
    base = fresh(tiny_recipe(backbone=Conv4(filters=32)), 0, init.provenance)
    whole = adapt(base, drawings, steps=1, reject_rate=None)
    full = len(whole.files()["model.safetensors"])
    sizes = {p: len(Delta(classifier=whole, base=base, precision=p).files()[STEP]) for p in PRECISIONS}
    assert sizes["float32"] < full
    assert sizes["float16"] < 0.55 * full
    assert sizes["int8"] < 0.33 * full


def test_a_delta_on_another_base_names_both_hashes(
    init: Initialization, classifier: Classifier, tmp_path: Path
) -> None:
    folder = save(Delta(classifier=classifier, base=init), tmp_path / "delta")
    other = fresh(tiny_recipe(), 9, init.provenance)
    with pytest.raises(BundleError) as error:
        load_classifier(folder, other)
    assert init.sha256[:16] in str(error.value)
    assert other.sha256[:16] in str(error.value)
    with pytest.raises(BundleError, match=other.sha256[:16]):
        Delta(classifier=classifier, base=other)
    with pytest.raises(BundleError, match=other.sha256[:16]):
        DeltaPredictor(save(other, tmp_path / "other")).add("it", folder)
    with pytest.raises(BundleError, match=r"which is neither bundled nor on the Hub; name its folder with --base"):
        load_classifier(folder)


def test_a_dense_base_of_another_number_of_classes_is_restored_too(
    init: Initialization, drawings: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(head="dense")
    for n, folder in ((3, drawings), (5, draw_folder(tmp_path / "five", ("a", "b", "c", "d", "e")))):
        base = fresh(recipe, 1, init.provenance)
        whole = adapt(base, folder, steps=2, reject_rate=None)
        delta = save(Delta(classifier=whole, base=base, precision="float32"), tmp_path / f"{n}")
        assert load_classifier(delta, base).files() == whole.files()
        place = save(base, tmp_path / f"base{n}")
        predictor = DeltaPredictor(place)
        predictor.add("it", delta)
        found = predictor.probabilities("it", whole.support.images)
        np.testing.assert_allclose(found, whole.probabilities(whole.support.images), atol=1e-5)


def test_one_predictor_serves_heads_on_means_and_heads_on_statistics(
    init: Initialization, drawings: Path, tmp_path: Path
) -> None:
    base = fresh(tiny_recipe(backbone=Residual(widths=(4, 6))), 0, init.provenance)
    predictor = DeltaPredictor(save(base, tmp_path / "base"))
    methods: tuple[Method, ...] = ("probe", "reptile", "prototypes")
    for method in methods:
        whole = adapt(base, drawings, method=method, steps=3 if method == "reptile" else None, reject_rate=None)
        predictor.add(method, save(Delta(classifier=whole, base=base, precision="float32"), tmp_path / method))
        found = predictor.probabilities(method, whole.support.images)
        np.testing.assert_allclose(found, whole.probabilities(whole.support.images), atol=1e-5)


@pytest.mark.parametrize(
    "backbone", [Conv4(filters=8, norm="group"), Mlp(widths=(12, 7)), Mlp(widths=(8,), norm="group")]
)
def test_a_delta_on_a_network_of_any_norm_answers_as_its_classifier(
    init: Initialization, drawings: Path, tmp_path: Path, backbone: Backbone
) -> None:
    base = fresh(tiny_recipe(backbone=backbone), 0, init.provenance)
    whole = adapt(base, drawings, steps=3, reject_rate=None)
    predictor = DeltaPredictor(save(base, tmp_path / "base"))
    predictor.add("it", save(Delta(classifier=whole, base=base, precision="float32"), tmp_path / "it"))
    found = predictor.probabilities("it", whole.support.images)
    np.testing.assert_allclose(found, whole.probabilities(whole.support.images), atol=1e-5)


def test_one_predictor_answers_for_many_users_as_their_classifiers_do(
    init: Initialization, drawings: Path, tmp_path: Path
) -> None:
    place = save(init, tmp_path / "base")
    predictor, classifiers = DeltaPredictor(place), {}
    five = draw_folder(tmp_path / "five", ("a", "b", "c", "d", "e"))
    for i, (support, method) in enumerate([(drawings, "reptile"), (five, "reptile"), (drawings, "prototypes")]):
        rate = None if i == 1 else 0.2
        whole = adapt(init, support, method=method, steps=4, reject_rate=rate, seed=i)  # type: ignore[arg-type]
        name, precision = f"user{i}", PRECISIONS[i]
        folder = save(Delta(classifier=whole, base=init, precision=precision), tmp_path / name)
        predictor.add(name, folder)
        classifiers[name] = load_classifier(folder, init)
    assert predictor.names == ("user0", "user1", "user2")
    assert predictor.labels("user1") == ("a", "b", "c", "d", "e")
    pictures = sorted(five.glob("*/*.png"))
    for _ in range(2):  # a second time, after the others
        for name, whole in classifiers.items():
            for found, wanted in zip(predictor.predict(name, pictures), whole.predict(pictures), strict=True):
                assert found.nearest == wanted.nearest
                assert found.probabilities == pytest.approx(wanted.probabilities, abs=1e-5)
    predictor.remove("user0")
    with pytest.raises(ConfigError, match="no delta 'user0' was added"):
        predictor.predict("user0", pictures)
    assert predictor.predict("user1", []) == []


def test_a_delta_whose_tensors_do_not_fit_is_refused_by_name(
    init: Initialization, classifier: Classifier, tmp_path: Path
) -> None:
    files = Delta(classifier=classifier, base=init).files()
    good = from_bytes(files[STEP], "it")
    predictor = DeltaPredictor(save(init, tmp_path / "base"))
    wrong: dict[str, Arrays] = {
        "conv1.weight": {**good, "conv1.weight": good["conv1.weight"][:2]},
        "head.bias": {k: v for k, v in good.items() if k != "head.bias"},
        "norm2.var": {**good, "norm2.var": good["norm2.var"].astype(np.float64)},
        "extra": {**good, "extra": np.zeros(3, np.float32)},
        "norm2.bias": {**good, "norm2.bias": good["norm2.bias"].astype(np.int8)},
    }
    for name, arrays in wrong.items():
        folder = write_folder(tmp_path / name, {**files, STEP: to_bytes(arrays)})
        with pytest.raises(ParamsMismatch, match=name):
            load_classifier(folder, init)
        with pytest.raises(ParamsMismatch, match=name):
            predictor.add("it", folder)
    folder = write_folder(tmp_path / "text", {**files, STEP: b"no tensors"})
    with pytest.raises(BundleError, match="is not a safetensors file"):
        load_classifier(folder, init)
    bad_head = {**good, "head.weight": good["head.weight"][:, :-1]}
    folder = write_folder(tmp_path / "head", {**files, STEP: to_bytes(bad_head)})
    with pytest.raises(ParamsMismatch, match="are not those of"):
        predictor.add("it", folder)
    assert predictor.names == ()


@pytest.mark.parametrize("limit", ["least_score", "threshold"])
def test_a_delta_calls_the_same_pictures_unknown_as_its_classifier(
    init: Initialization, classifier: Classifier, tmp_path: Path, limit: str
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 1), np.uint8)
    warm = classifier.config.replace(temperature=2.0)
    with torch.no_grad():
        logits = classifier.network()(torch.from_numpy(images))
    scores = (logits if limit == "least_score" else (logits / 2).softmax(1)).max(1).values
    middle = float(scores.sort().values[14:16].mean())  # between two of them, so that rounding decides nothing
    strict = replace(classifier, config=warm.replace(**{limit: middle}))
    predictor = DeltaPredictor(save(init, tmp_path / "init"))
    predictor.add("it", save(Delta(classifier=strict, base=init, precision="float32"), tmp_path / "delta"))
    found = [answer.label is not None for answer in predictor.predict("it", list(images))]
    assert found == [answer.label is not None for answer in strict.predict(list(images))]
    assert sum(found) == 15


def test_a_difference_too_large_for_float16_is_refused(init: Initialization, classifier: Classifier) -> None:
    params = {**classifier.params, "head.bias": torch.full((3,), 1e6)}
    with pytest.raises(ConfigError, match=r"head\.bias: a difference of 1e\+06 is too large for float16; use int8"):
        Delta(classifier=replace(classifier, params=params), base=init, precision="float16").files()


def test_from_the_shell(run: Run, init: Initialization, drawings: Path, tmp_path: Path) -> None:
    base, delta, file = save(init, tmp_path / "base"), tmp_path / "delta", tmp_path / "m.onnx"
    words = ("adapt", "--support", drawings, "--init", base, "--steps", 5, "--reject-rate", 0)
    code, out, err = run(*words, "--delta", "int8", "--output", delta, "--json")
    assert code == 0, err
    reported = json.loads(out)["delta"]
    assert (reported["precision"], reported["bytes"]) == ("int8", (delta / STEP).stat().st_size)
    whole = load_classifier(delta, init)
    right = (whole.probabilities(whole.support.images).argmax(1) == whole.support.targets).mean()
    assert reported["support_accuracy"] == pytest.approx(right)
    assert "stored as its int8 delta from glyphs, " in err
    assert f"next: fewshot export {delta} --base {base}" in err
    picture = drawings / "ant" / "0.png"
    assert run("predict", delta, picture)[0] == 1, "glyphs is not bundled"
    by_delta = run("predict", delta, picture, "--base", base, "--json")
    assert run("export", delta, "--base", base, "--output", file)[0] == 0
    by_file = run("predict", file, picture, "--json")
    assert json.loads(by_delta[1])[0]["nearest"] == json.loads(by_file[1])[0]["nearest"]
    assert run("verify", delta, "--base", base)[0] == 0
    assert f"<- initialization glyphs (sha256 {init.sha256[:16]}" in run("info", delta)[1]
    assert lineage(delta).labels == ("ant", "bee", "cat")
    assert "in int8" in (delta / "README.md").read_text()
    assert "model.safetensors" not in read_folder(delta)
    code, _, err = run("adapt", "--engine", "onnx", "--delta", "int8", "--support", drawings, "--output", file)
    assert code == 2


def test_a_delta_predictor_needs_no_pytorch(
    init: Initialization, classifier: Classifier, drawings: Path, tmp_path: Path
) -> None:
    save(init, tmp_path / "base")
    save(Delta(classifier=classifier, base=init), tmp_path / "delta")
    export_onnx(classifier, tmp_path / "m.onnx")
    program = (
        "import sys, fewshot_sdk as sdk; p = sdk.DeltaPredictor('base'); p.add('me', 'delta');"
        "f = 'drawings/bee/1.png'; one, two = p.predict('me', [f])[0], sdk.Predictor('m.onnx').predict([f])[0];"
        "assert one.nearest == two.nearest and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
