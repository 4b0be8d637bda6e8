from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from fewshot_sdk import Classifier, Predictor, adapt, export_onnx, save
from fewshot_sdk.artifacts.initialization import Initialization, fresh
from fewshot_sdk.config.onnx_file import INPUT, KNOWN, LABEL, METADATA_KEY, OUTPUT, PIXELS
from fewshot_sdk.config.recipe import Backbone, Conv4, Mlp, Residual
from fewshot_sdk.config.records import Method
from fewshot_sdk.errors import BundleError, ConfigError, ImageError, OutputExists, ParityError
from fewshot_sdk.export import checks
from fewshot_sdk.export.checks import TOLERANCE, Precision
from fewshot_sdk.graphs.versions import OPSET
from fewshot_sdk.images.preprocessing import Pixels, preprocess
from fewshot_sdk.runtime.predictor import normalized
from fewshot_sdk.runtime.session import opened
from tests.conftest import Run, draw_folder, tiny_recipe


@pytest.fixture(scope="module")
def classifier(init: Initialization, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return adapt(init, draw_folder(tmp_path_factory.mktemp("support") / "in"), method="reptile", reject_rate=None)


@pytest.fixture(scope="module")
def exported(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(classifier, tmp_path_factory.mktemp("export") / "model.onnx").path


def test_it_is_one_self_contained_file_with_a_free_batch_size(exported: Path) -> None:
    model = onnx.load(str(exported), load_external_data=False)
    assert [file.name for file in exported.parent.iterdir()] == ["model.onnx"]
    assert not any(t.HasField("data_location") and t.data_location for t in model.graph.initializer)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    images, threshold = model.graph.input
    assert threshold.name in {tensor.name for tensor in model.graph.initializer}  # has a default
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sizes = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert sizes == ["batch", "height", "width", 3]
    assert [output.name for output in model.graph.output] == [LABEL, OUTPUT, KNOWN]


def test_it_names_labels_preprocessing_origin_and_parity(exported: Path, classifier: Classifier) -> None:
    (prop,) = [p for p in onnx.load(str(exported)).metadata_props if p.key == METADATA_KEY]
    metadata = json.loads(prop.value)
    assert metadata["labels"] == ["ant", "bee", "cat"]
    assert metadata["preprocessing"]["height"] == 16
    assert metadata["initialization"]["sha256"] == classifier.config.initialization.sha256
    assert metadata["parity"]["images"] == 12
    assert metadata["parity"]["random_images"] == 1000
    assert metadata["parity"]["batches"] == [1, 2, 7]
    assert 0 <= metadata["parity"]["max_difference"] <= TOLERANCE


@pytest.mark.parametrize("n", [1, 2, 7, 64, 130])
def test_it_agrees_with_pytorch_at_any_batch_size(exported: Path, classifier: Classifier, n: int) -> None:
    pictures = np.random.default_rng(n).integers(0, 256, (n, 23, 31, 3), np.uint8)
    pixels = np.stack([preprocess(picture, classifier.config.preprocessing) for picture in pictures])
    np.testing.assert_allclose(
        Predictor(exported).probabilities(pictures), classifier.probabilities(pixels), atol=TOLERANCE
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_one_picture_alone_and_in_a_batch_of_64_gets_the_same_answer(
    classifier: Classifier, tmp_path: Path, precision: Precision
) -> None:
    predictor = Predictor(export_onnx(classifier, tmp_path / "m.onnx", precision=precision, max_drop=1).path)
    pictures = np.random.default_rng(0).integers(0, 256, (64, 40, 50, 3), np.uint8)
    alone = np.concatenate([predictor.probabilities(pictures[i : i + 1]) for i in range(64)])
    np.testing.assert_allclose(predictor.probabilities(pictures), alone, atol=1e-6)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_label_and_known_are_those_of_pytorch(classifier: Classifier, tmp_path: Path, score: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (30, 20, 20, 3), np.uint8)
    pixels = np.stack([preprocess(picture, classifier.config.preprocessing) for picture in pictures])
    warm = replace(classifier, config=classifier.config.replace(temperature=2.0))
    with torch.no_grad():
        least = float(warm.network()(torch.from_numpy(pixels)).max(1).values.median()) + 1e-4
    threshold = float(np.median(warm.probabilities(pixels).max(1)))
    limit = {"least_score": least} if score == "logit" else {"threshold": threshold}
    strict = replace(warm, config=warm.config.replace(**limit))
    exported = export_onnx(strict, tmp_path / "m.onnx").path
    session = opened(exported, 1).session
    label, probabilities, known = session.run([LABEL, OUTPUT, KNOWN], {INPUT: pictures})
    predictions = Predictor(exported).predict(list(pictures))
    assert [strict.labels[i] for i in label] == [prediction.nearest for prediction in predictions]
    assert known.tolist() == [prediction.label is not None for prediction in predictions]
    assert known.tolist() == [prediction.label is not None for prediction in strict.predict(list(pictures))]
    assert 0 < sum(known) < 30
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)


def test_pictures_of_many_sizes_are_answered_in_their_order(exported: Path) -> None:
    predictor, rng = Predictor(exported), np.random.default_rng(0)
    sizes = [(30, 40), (30, 40), (40, 30), (900, 900), (900, 900), (30, 40)]
    pictures = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    together = predictor.predict(pictures)
    for picture, prediction in zip(pictures, together, strict=True):
        (alone,) = predictor.predict([picture])
        assert prediction.probabilities == pytest.approx(alone.probabilities, abs=1e-6)


def test_a_raw_file_takes_the_networks_floats(classifier: Classifier, exported: Path, tmp_path: Path) -> None:
    raw = export_onnx(classifier, tmp_path / "raw.onnx", raw=True).path
    session = opened(raw, 1).session
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == (PIXELS, "tensor(float)", ["batch", 1, 16, 16])
    images = classifier.support.images
    (rows,) = session.run([OUTPUT], {PIXELS: normalized(images, classifier.config.preprocessing)})
    np.testing.assert_allclose(rows, classifier.probabilities(images), atol=TOLERANCE)
    files = sorted(draw_folder(tmp_path / "new", first=4).glob("*/*.png"))
    for left, right in zip(Predictor(raw).predict(files), Predictor(exported).predict(files), strict=True):
        assert left.probabilities == pytest.approx(right.probabilities, abs=1e-5)
    with pytest.raises(ImageError, match=r"expected uint8 \(n, 16, 16, 1\), found uint8 \[1, 17, 16, 1\]"):
        Predictor(raw).probabilities(np.zeros((1, 17, 16, 1), np.uint8))


@pytest.mark.parametrize(
    ("backbone", "method"),
    [
        (Conv4(filters=5, downsample="pool"), "reptile"),
        (Residual(widths=(4, 6)), "reptile"),
        (Residual(widths=(5, 5, 7)), "reptile"),
        (Residual(widths=(5, 5, 7)), "probe"),
        (Residual(widths=(4,)), "prototypes"),
        (Conv4(filters=8, norm="group"), "reptile"),
        (Conv4(filters=5, downsample="pool", norm="none"), "probe"),
        (Mlp(widths=(12, 7)), "reptile"),
        (Mlp(widths=(16, 8), norm="group"), "prototypes"),
        (Mlp(widths=(9,), norm="none"), "reptile"),
    ],
)
def test_every_network_is_exported_in_every_precision(
    init: Initialization,
    drawings: Path,
    tmp_path: Path,
    backbone: Backbone,
    method: Method,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "RANDOM", 50)
    preprocessing = init.recipe.preprocessing.replace(
        height=17, width=22, channels=3, fit="crop", mean=(0.4,), std=(0.3,)
    )
    other = fresh(tiny_recipe(backbone=backbone, preprocessing=preprocessing), 0, init.provenance)
    made = adapt(other, drawings, method=method, steps=3 if method == "reptile" else None, reject_rate=None)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 30, 20, 3), np.uint8)
    wanted = made.probabilities(np.stack([preprocess(picture, preprocessing) for picture in pictures]))
    for precision, tolerance in (("fp32", TOLERANCE), ("fp16", 0.02), ("int8", 0.3)):
        file = export_onnx(made, tmp_path / f"{precision}.onnx", precision=precision, max_drop=1).path  # type: ignore[arg-type]
        np.testing.assert_allclose(Predictor(file).probabilities(pictures), wanted, atol=tolerance)


def test_every_convolution_of_an_untrained_network_too_is_computed_in_8_bits(
    init: Initialization, drawings: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(backbone=Residual(widths=(8, 16)), head="zero")
    made = adapt(fresh(recipe, 0, init.provenance), drawings, steps=1, reject_rate=None)
    assert not any(tensor.any() for name, tensor in made.params.items() if name.endswith("conv.bias"))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    data = export_onnx(made, tmp_path / "int8.onnx", precision="int8", raw=True, max_drop=1).path.read_bytes()
    onnxruntime.InferenceSession(data, options)
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert operators.count("QLinearConv") == 6
    assert "Conv" not in operators


def test_products_of_eight_bits_cannot_overflow_sixteen(classifier: Classifier, tmp_path: Path) -> None:
    model = onnx.load(str(export_onnx(classifier, tmp_path / "int8.onnx", precision="int8", max_drop=1).path))
    tensors = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    weights = [array for array in tensors if array.dtype == np.int8 and array.ndim > 1]
    assert weights
    assert all(2 * 255 * int(np.abs(array.astype(int)).max()) < 2**15 for array in weights)


@pytest.mark.parametrize(("opset", "ir_version"), [(15, 8), (17, 8), (18, 8), (20, 9), (23, 11)])
def test_the_opset_is_a_choice(
    classifier: Classifier, exported: Path, tmp_path: Path, opset: int, ir_version: int
) -> None:
    made = export_onnx(classifier, tmp_path / "m.onnx", opset=opset)
    model = onnx.load(str(made.path))
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset}
    assert model.ir_version == ir_version
    assert made.metadata.opset == opset
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)
    np.testing.assert_allclose(
        Predictor(made.path).probabilities(images), Predictor(exported).probabilities(images), atol=1e-6
    )


def test_the_ir_version_is_a_choice(classifier: Classifier, tmp_path: Path) -> None:
    assert onnx.load(str(export_onnx(classifier, tmp_path / "m.onnx", ir_version=10).path)).ir_version == 10


def test_the_commands_take_both(classifier: Classifier, saved: Path, tmp_path: Path, run: Run) -> None:
    save(classifier, tmp_path / "model")
    for words in (["export", tmp_path / "model"], ["export-learner", saved]):
        path = tmp_path / f"{words[0]}.onnx"
        code, _, err = run(*words, "--output", path, "--opset", 17, "--ir-version", 9)
        assert code == 0, err
        model = onnx.load(str(path))
        assert (model.opset_import[0].version, model.ir_version) == (17, 9)
        assert json.loads(model.metadata_props[0].value)["opset"] == 17


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        ({"opset": 14}, "opset: expected 15 to 23, found 14"),
        ({"opset": 24}, "opset: expected 15 to 23, found 24"),
        ({"ir_version": 8}, "IR version: expected 9 to 13 with opset 20, found 8; for a lower one take a lower opset"),
        ({"ir_version": 14}, "IR version: expected 9 to 13 with opset 20, found 14$"),
    ],
)
def test_other_versions_are_refused(
    classifier: Classifier, tmp_path: Path, versions: dict[str, int], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        export_onnx(classifier, tmp_path / "n.onnx", **versions)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_no_two_nodes_have_the_same_name(classifier: Classifier, tmp_path: Path, precision: Precision) -> None:
    made = export_onnx(classifier, tmp_path / "m.onnx", precision=precision, max_drop=1)
    names = [node.name for node in onnx.load(str(made.path)).graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_pictures_are_preprocessed_as_for_adapting(exported: Path, classifier: Classifier, tmp_path: Path) -> None:
    files = sorted(draw_folder(tmp_path / "new", first=4).glob("*/*.png"))
    ours, theirs = Predictor(exported).predict(files), classifier.predict(files)
    assert [answer.label for answer in ours] == [answer.label for answer in theirs]
    for left, right in zip(ours, theirs, strict=True):
        assert left.probabilities == pytest.approx(right.probabilities, abs=TOLERANCE)


def test_the_same_classifier_gives_the_same_file(exported: Path, classifier: Classifier, tmp_path: Path) -> None:
    again = export_onnx(classifier, tmp_path / "again.onnx")
    assert again.path.read_bytes() == exported.read_bytes()
    assert again.size == exported.stat().st_size


def test_an_export_that_disagrees_is_not_kept(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Classifier.probabilities
    monkeypatch.setattr(Classifier, "probabilities", lambda self, pixels: right(self, pixels)[:, ::-1])
    message = r"disagree on support picture \d+ \(\w+\), in batches of 1: a probability differs by .* no file"
    with pytest.raises(ParityError, match=message):
        export_onnx(classifier, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_disagreement_that_only_larger_batches_show_is_found(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Predictor.probabilities

    def leaky(self: Predictor, pictures: Pixels) -> NDArray[np.float32]:
        rows = right(self, pictures)
        return rows if len(pictures) < 7 else rows + np.float32(2 * TOLERANCE) * np.arange(len(rows))[:, None]

    monkeypatch.setattr(Predictor, "probabilities", leaky)
    with pytest.raises(
        ParityError, match=r"support picture 6 \(bee\), in batches of 7: a probability differs by 0.0012"
    ):
        export_onnx(classifier, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_made_up_pictures_are_compared_too(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_sdk.export.checks.preprocess", lambda picture, how: 255 - preprocess(picture, how))
    lean = classifier.without_pictures()
    with pytest.raises(ParityError, match=r"disagree on random picture \d+ \(\d+ x \d+ pixels\), in batches of 1"):
        export_onnx(lean, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_reduced_precision_reports_its_cost_and_its_speed(classifier: Classifier, tmp_path: Path) -> None:
    whole = export_onnx(classifier, tmp_path / "fp32.onnx")
    assert (whole.metadata.precision, whole.metadata.reduction, whole.speed) == ("fp32", None, None)
    for precision, least in (("fp16", 1e-6), ("int8", 1e-4)):
        made = export_onnx(classifier, tmp_path / f"{precision}.onnx", precision=precision, max_drop=1)  # type: ignore[arg-type]
        reduction, speed = made.metadata.reduction, made.speed
        assert made.metadata.precision == precision
        assert reduction is not None
        assert speed is not None
        images, targets = classifier.support.images, classifier.support.targets
        found, wanted = (Predictor(file.path).probabilities(images) for file in (made, whole))
        assert least < reduction.max_difference == pytest.approx(np.abs(found - wanted).max(), abs=1e-6)
        assert reduction.images == 12
        lost = (wanted.argmax(1) == targets) & (found.argmax(1) != targets)
        assert reduction.lost == pytest.approx(lost.mean())
        assert min(speed.milliseconds, speed.milliseconds_fp32) > 0


def test_reduced_precision_that_costs_too_much_is_refused(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Predictor.answers
    monkeypatch.setattr(
        Predictor,
        "answers",
        lambda self, pictures: (
            right(self, pictures)[0][:, :: 1 if self.metadata.precision == "fp32" else -1],
            right(self, pictures)[1],
        ),
    )
    with pytest.raises(
        ParityError, match=r"int8 gets \d+\.\d% of 12 support pictures wrong .* at most 1\.0% is allowed"
    ):
        export_onnx(classifier, tmp_path / "m.onnx", precision="int8")
    with pytest.raises(ConfigError, match="fp16 is checked on the support pictures, and this classifier has none"):
        export_onnx(classifier.without_pictures(), tmp_path / "m.onnx", precision="fp16")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_left_alone(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"mine")
    with pytest.raises(OutputExists):
        export_onnx(classifier, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"mine"


def test_predicting_imports_neither_torch_nor_onnx(exported: Path, tmp_path: Path) -> None:
    picture = draw_folder(tmp_path / "new") / "ant" / "0.png"
    program = f"""
import sys
sys.modules["torch"] = sys.modules["onnx"] = sys.modules["huggingface_hub"] = None  # importing them now fails
import fewshot_sdk
print(fewshot_sdk.Predictor({str(exported)!r}).predict([{str(picture)!r}])[0].label)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("ant", "bee", "cat")


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"model\.onnx is not an ONNX file; expected one made by `fewshot export`"):
        Predictor(tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="no such file"):
        Predictor(tmp_path / "nowhere.onnx")


def test_an_onnx_file_of_other_software_is_refused(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(BundleError, match=r"other\.onnx is an ONNX file, but not one made by `fewshot export`"):
        Predictor(tmp_path / "other.onnx")


@pytest.mark.parametrize("change", [{"labels": ["ant", "bee"]}, {"raw": True}])
def test_metadata_that_do_not_match_the_graph_are_refused(exported: Path, change: dict[str, object]) -> None:
    model = onnx.load(str(exported))
    metadata = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps({**metadata, **change})
    with pytest.raises(BundleError, match=r"its graph, from images to .*, does not match its metadata"):
        Predictor(model.SerializeToString())


def test_damaged_metadata_are_refused(exported: Path) -> None:
    model = onnx.load(str(exported))
    onnx.helper.set_model_props(model, {METADATA_KEY: '{"labels": 3}'})
    with pytest.raises(BundleError, match="its metadata cannot be used"):
        Predictor(model.SerializeToString())


def test_weights_in_another_file_are_refused(
    exported: Path, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where onnxruntime would look for it
    settings = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 100}
    onnx.save(onnx.load(str(exported)), "split.onnx", **settings)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=r"split\.onnx keeps weights in another file"):
        Predictor("split.onnx")
    named = replace(classifier, config=classifier.config.replace(labels=("location", "a location", "elsewhere")))
    assert Predictor(export_onnx(named, "one.onnx").path).labels[0] == "location"


def test_a_file_in_an_earlier_format_is_refused(exported: Path) -> None:
    model = onnx.load(str(exported))
    metadata = json.loads(model.metadata_props[0].value)
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps({**metadata, "format": "fewshot-sdk onnx 1"})})
    with pytest.raises(
        BundleError, match=r"has format 'fewshot-sdk onnx 1', but this version reads .* export it again"
    ):
        Predictor(model.SerializeToString())


@pytest.mark.parametrize(
    "pictures",
    [np.zeros((2, 16, 16, 3), np.float32), np.zeros((16, 16, 3), np.uint8), np.zeros((0, 9, 9, 3), np.uint8)],
)
def test_an_array_of_another_shape_or_dtype_is_refused(exported: Path, pictures: Any) -> None:
    with pytest.raises(ImageError, match=r"pictures: expected uint8 \(n, height, width, 3\), found "):
        Predictor(exported).probabilities(pictures)


def test_a_bad_picture_is_named(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        Predictor(exported).predict([tmp_path / "nowhere.png"])


MAPPED: dict[str, tuple[Backbone, Method]] = {
    "conv4": (Conv4(filters=8), "reptile"),
    "conv4 pool": (Conv4(filters=8, downsample="pool", norm="group"), "prototypes"),
    "residual mean": (Residual(widths=(8, 12)), "reptile"),
    "residual statistics": (Residual(widths=(8, 12, 16)), "probe"),
}


@pytest.fixture
def few_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "RANDOM", 20)


@pytest.fixture(scope="module", params=MAPPED)
def with_map(
    request: pytest.FixtureRequest, init: Initialization, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Classifier, Path]:
    backbone, method = MAPPED[request.param]
    folder = tmp_path_factory.mktemp("mapped")
    preprocessing = init.recipe.preprocessing.replace(height=40, width=56)
    start = fresh(tiny_recipe(backbone=backbone, preprocessing=preprocessing), 0, init.provenance)
    classifier = adapt(start, draw_folder(folder / "in"), method=method)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "RANDOM", 20)
        return classifier, export_onnx(classifier, folder / "m.onnx", heat_map=True).path


@pytest.mark.usefixtures("few_random")
def test_an_export_with_a_heat_map_gives_that_of_pytorch_and_the_same_answers(
    with_map: tuple[Classifier, Path], tmp_path: Path
) -> None:
    classifier, path = with_map
    predictor, pixels = Predictor(path), classifier.support.images
    maps = classifier.heat_maps(pixels)
    assert np.abs(maps).max() > 0.01
    np.testing.assert_allclose(predictor.heat_maps(pixels), maps, atol=1e-4 * np.abs(maps).max())
    plain = Predictor(export_onnx(classifier, tmp_path / "plain.onnx").path)
    np.testing.assert_array_equal(predictor.probabilities(pixels), plain.probabilities(pixels))


@pytest.mark.usefixtures("few_random")
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_in_lower_precision_a_heat_map_is_nearly_the_same(
    with_map: tuple[Classifier, Path], tmp_path: Path, precision: Precision
) -> None:
    classifier, path = with_map
    small = export_onnx(classifier, tmp_path / "m.onnx", precision=precision, max_drop=1, heat_map=True).path
    pixels = classifier.support.images
    found, wanted = Predictor(small).heat_maps(pixels), Predictor(path).heat_maps(pixels)
    same = Predictor(small).probabilities(pixels).argmax(1) == Predictor(path).probabilities(pixels).argmax(1)
    assert same.mean() > 0.8
    assert np.abs(found - wanted)[same].max() < 0.1 * np.abs(wanted).max()


@pytest.mark.usefixtures("few_random")
def test_a_raw_export_has_a_heat_map_too(with_map: tuple[Classifier, Path], tmp_path: Path) -> None:
    classifier, path = with_map
    raw = Predictor(export_onnx(classifier, tmp_path / "raw.onnx", raw=True, heat_map=True).path)
    pixels = classifier.support.images
    np.testing.assert_allclose(raw.heat_maps(pixels), Predictor(path).heat_maps(pixels), rtol=1e-4, atol=1e-5)


def test_a_file_without_a_heat_map_says_how_to_get_one(exported: Path) -> None:
    with pytest.raises(BundleError, match=r"model.onnx has no heat map; .* fewshot export --heat-map"):
        Predictor(exported).heat_maps(np.zeros((1, 16, 16, 3), np.uint8))


def test_a_heat_map_that_differs_from_pytorchs_is_not_kept(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Predictor.heat_maps
    monkeypatch.setattr(Predictor, "heat_maps", lambda self, pictures: right(self, pictures) + np.float32(0.01))
    with pytest.raises(ParityError, match=r"heat map of support picture 0: a value differs by 0\.01"):
        export_onnx(classifier, tmp_path / "m.onnx", heat_map=True)
    assert not (tmp_path / "m.onnx").exists()


def test_a_fully_connected_network_is_not_exported_with_a_heat_map(init: Initialization, tmp_path: Path) -> None:
    start = fresh(tiny_recipe(backbone=Mlp(widths=(8,))), 0, init.provenance)
    mlp = adapt(start, draw_folder(tmp_path / "in"), method="prototypes")
    with pytest.raises(ConfigError, match="mlp network has no heat map"):
        export_onnx(mlp, tmp_path / "m.onnx", heat_map=True)
