from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fewshot_sdk import Learner, load, save
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.errors import BundleError, ExportError, ParamsMismatch
from fewshot_sdk.export.learner import learner_bytes, made_up_task
from fewshot_sdk.graphs.learner.graph import learner_graph
from fewshot_sdk.runtime.learners import learner_of
from fewshot_sdk.storage.bundles import WEIGHTS
from fewshot_sdk.storage.files import read_folder, write_folder
from fewshot_sdk.storage.repositories import bundled
from fewshot_sdk.storage.tensors import from_bytes, to_bytes

WITHOUT = {"omniglot-protonet", "sine"}  # no steps, and no pictures


def plain(data: bytes) -> bytes:
    """A learner's bytes without its metadata."""
    model = onnx.load_from_string(data)
    del model.metadata_props[:]
    found: bytes = model.SerializeToString(deterministic=True)
    return found


@pytest.mark.parametrize("name", sorted(bundled().keys() - WITHOUT))
def test_it_is_the_graph_that_pytorch_exports_to_the_byte(name: str) -> None:
    init = load(name)
    recipe: Recipe = init.recipe
    assert plain(learner_of(name)) == learner_graph(recipe, init.state).SerializeToString(deterministic=True)


def test_it_adapts_like_the_exported_file_and_says_that_nothing_was_compared(init: Initialization, saved: Path) -> None:
    made, exported = Learner(learner_of(saved)), Learner(learner_bytes(init))
    task = made_up_task(init.recipe.preprocessing, 3, 2, 4, seed=1)
    np.testing.assert_array_equal(made.adapt(*task).probabilities, exported.adapt(*task).probabilities)
    parity = made.metadata.parity
    assert parity.images == 0 < exported.metadata.parity.images
    wanted = exported.metadata
    assert made.metadata == wanted.replace(parity=parity, noise_floor=0, versions=made.metadata.versions)


def test_what_cannot_be_a_learner_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be exported as a learner"):
        learner_of("omniglot-protonet")
    with pytest.raises(BundleError, match="which is for numbers"):
        learner_of("sine")
    with pytest.raises(BundleError, match="no initialization 'nothing'"):
        learner_of("nothing")


@pytest.mark.parametrize("change", ["missing", "smaller"])
def test_tensors_that_do_not_fit_the_settings_are_refused(init: Initialization, tmp_path: Path, change: str) -> None:
    save(init, tmp_path / "init")
    files = read_folder(tmp_path / "init")
    tensors = from_bytes(files[WEIGHTS[0]], "weights")
    first = tensors.pop("conv1.weight")
    if change == "smaller":
        tensors["conv1.weight"] = first[:, :, :2]
    write_folder(tmp_path / "odd", {**files, WEIGHTS[0]: to_bytes(tensors)})
    with pytest.raises(ParamsMismatch, match=r"its tensors do not fit its settings \(.*conv1.weight"):
        learner_of(tmp_path / "odd")
