from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fewshot_sdk import load, load_classifier
from fewshot_sdk.adaptation.inspection import adapt_inspector, counted, extend_inspector, limit_of
from fewshot_sdk.adaptation.memory import left_out_scores, most_different
from fewshot_sdk.artifacts.inspector import Inspector, read_inspector
from fewshot_sdk.artifacts.opening import load_inspector, open_artifact
from fewshot_sdk.config.inspection import Inspection, PatchSettings
from fewshot_sdk.config.promises import promise_of
from fewshot_sdk.data.collages import pasted
from fewshot_sdk.data.textures import drawn_texture, textured
from fewshot_sdk.errors import BundleError, ConfigError, OutputExists, ParamsMismatch, SupportError
from fewshot_sdk.export.inspector import export_inspector
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.runtime.inspector import InspectionPredictor
from fewshot_sdk.storage.files import save
from fewshot_sdk.storage.tensors import from_safetensors, to_safetensors

SIDE = 224


def goods(n: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    texture = drawn_texture(rng, 2)
    return np.stack([textured(texture, SIDE, rng) for _ in range(n)])


def support(good: NDArray[np.uint8], bad: NDArray[np.uint8] | None = None) -> SupportSet:
    bad = good[:0] if bad is None else bad
    targets = np.repeat([0, 1], [len(good), len(bad)])
    return SupportSet(labels=("good", "not good"), images=np.concatenate([good, bad]), targets=targets)


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    settings = PatchSettings(memory=4 * 784)  # all patches
    return adapt_inspector(load("photo"), support(goods(4)), settings=settings)


def test_a_picture_in_memory_has_no_distance(inspector: Inspector) -> None:
    assert inspector.heat_maps(inspector.pictures).max() < 1e-5


def test_the_memory_of_everything_is_every_patch(inspector: Inspector) -> None:
    assert len(inspector.parts["memory"]) == 4 * 784


def test_a_pasted_piece_is_where_the_heat_map_is_highest(inspector: Inspector) -> None:
    image = inspector.pictures[0].copy()
    image[96:144, 40:88] = 255 - image[96:144, 40:88]
    (heat,) = inspector.heat_maps(image[None])
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 11 <= row <= 18
    assert 4 <= column <= 11


def test_scores_do_not_depend_on_the_order_of_good_pictures(inspector: Inspector) -> None:
    settings = PatchSettings(memory=400)
    made = [
        adapt_inspector(load("photo"), support(images), settings=settings)
        for images in (inspector.pictures, inspector.pictures[::-1])
    ]
    query = pasted(goods(5)[4], np.random.default_rng(1))[None]
    np.testing.assert_allclose(made[0].scores(query), made[1].scores(query), atol=1e-5)
    assert len(made[0].parts["memory"]) == 400


def test_the_most_different_rows_are_far_apart_and_all_are_all() -> None:
    rows = torch.eye(4)[[0, 0, 0, 1, 1, 2, 3]][None]
    kept = most_different(rows, 4)
    assert sorted(kept[0].argmax(1).tolist()) == [0, 1, 2, 3]
    assert torch.equal(most_different(rows, 7), rows)


def test_leaving_a_picture_out_leaves_out_its_own_rows() -> None:
    rows = torch.eye(4)[torch.tensor([[0, 1], [0, 1], [2, 3]])]
    assert left_out_scores(rows, rows, 1).tolist() == [0, 0, 1]


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_the_limit_loses_at_most_its_share_of_further_good_pictures(rate: float) -> None:
    rng, lost = np.random.default_rng(0), []
    for _ in range(2000):
        scores = rng.gamma(9, 0.03, 41)
        limit = limit_of(Inspection(reject_rate=rate, scores=tuple(scores[:40])))
        assert limit is not None
        lost.append(scores[40] > limit)
    assert np.mean(lost) <= rate + 3 * (rate / 2000) ** 0.5


def test_few_pictures_put_the_limit_above_all_of_their_scores() -> None:
    limit = limit_of(Inspection(reject_rate=0.05, scores=(0.2, 0.3, 0.4)))
    assert limit is not None
    assert limit > 0.4


@pytest.mark.parametrize("found", [Inspection(reject_rate=0.0, scores=(0.1, 0.2)), Inspection(reject_rate=0.05)])
def test_a_rate_of_0_or_a_single_picture_sets_no_limit(found: Inspection) -> None:
    assert limit_of(found) is None


def test_bad_pictures_set_the_limit_half_way_between() -> None:
    found = Inspection(reject_rate=0.05, scores=(0.1, 0.2), bad_scores=(0.6, 0.8))
    assert limit_of(found) == pytest.approx(0.4)
    overlapping = found.replace(scores=(0.1, 0.2, 0.7), bad_scores=(0.5, 0.9))
    limit = limit_of(overlapping)
    assert limit is not None
    assert (counted(overlapping, limit).lost, counted(overlapping, limit).missed) == (1, 0)


def test_few_pictures_are_told_to_promise_little(inspector: Inspector) -> None:
    assert "can promise no rate below 1 in 5 (20.0%)" in promise_of(inspector.config)
    assert "19 would do" in promise_of(inspector.config)


def test_saving_and_opening_gives_the_same_scores(inspector: Inspector, tmp_path: Path) -> None:
    save(inspector, tmp_path / "a")
    again = load_inspector(tmp_path / "a")
    np.testing.assert_array_equal(again.scores(goods(5)), inspector.scores(goods(5)))
    assert isinstance(open_artifact(tmp_path / "a"), Inspector)


def test_extending_is_adapting_to_all_at_once(inspector: Inspector) -> None:
    images = goods(5)
    extended = extend_inspector(adapt_inspector(load("photo"), support(images[:2])), support(images[1:]))
    whole = adapt_inspector(load("photo"), support(images))
    assert extended.config == whole.config
    assert torch.equal(extended.parts["memory"], whole.parts["memory"])
    with pytest.raises(SupportError, match="kept no pictures"):
        extend_inspector(inspector.without_pictures(), support(images))


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 0.02)])
def test_the_exported_file_agrees_with_pytorch(
    inspector: Inspector, tmp_path: Path, precision: str, tolerance: float
) -> None:
    path = tmp_path / "a.onnx"
    export_inspector(inspector, path, precision=precision, max_drop=1)  # type: ignore[arg-type]
    predictor, rng = InspectionPredictor(path), np.random.default_rng(0)
    images = np.stack([goods(5)[4], pasted(goods(5)[4], rng)])
    np.testing.assert_allclose(predictor.scores(images), inspector.scores(images), atol=tolerance)
    np.testing.assert_allclose(predictor.heat_maps(images), inspector.heat_maps(images), atol=2 * tolerance)
    ours, theirs = inspector.predict(list(images)), predictor.predict(list(images))
    assert [each.good for each in ours] == [each.good for each in theirs]
    assert [each.good for each in predictor.predict(list(images), threshold=0.0)] == [False, False]
    with pytest.raises(OutputExists):
        export_inspector(inspector, path)


def test_a_network_without_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="take --init photo"):
        adapt_inspector(load("omniglot"), support(goods(2)))


def test_pictures_of_which_none_is_good_are_refused() -> None:
    with pytest.raises(SupportError, match="expected at least one picture"):
        adapt_inspector(load("photo"), support(goods(2)[:0], goods(2)))


@pytest.mark.parametrize("name", ["memory", "pictures"])
def test_a_tensor_without_rows_is_refused(inspector: Inspector, name: str, tmp_path: Path) -> None:
    files = inspector.files()
    tensors = from_safetensors(files[f"{name}.safetensors"], name)
    files[f"{name}.safetensors"] = to_safetensors({**tensors, name: tensors[name].flatten()[0]})
    with pytest.raises(ParamsMismatch, match=name):
        read_inspector(files, tmp_path)


def test_an_inspector_is_no_initialization_and_no_classifier(inspector: Inspector, tmp_path: Path) -> None:
    save(inspector, tmp_path / "m")
    for opening in (load, load_classifier):
        with pytest.raises(BundleError, match="knows good pictures alone"):
            opening(tmp_path / "m")
