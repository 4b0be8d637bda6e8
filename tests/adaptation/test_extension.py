from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_sdk import Classifier, adapt, load_classifier, save
from fewshot_sdk.adaptation.extension import corrected, extend, union
from fewshot_sdk.artifacts.editing import edited
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.edits import Edit
from fewshot_sdk.config.recipe import EfficientNet
from fewshot_sdk.config.records import Method
from fewshot_sdk.engine.features import frozen_features
from fewshot_sdk.engine.heads import prototypes
from fewshot_sdk.errors import SupportError
from fewshot_sdk.images.support import SupportSet, read_support
from tests.adaptation.test_methods import of_tails
from tests.conftest import draw_folder


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """Two more pictures of the bee, and a new class that sorts between the old ones."""
    folder = draw_folder(tmp_path / "more", ("-", "bee"), first=4, shots=2)
    (folder / "-").rename(folder / "bat")
    return folder


def both(classifier: Classifier, more: Path) -> SupportSet:
    return union(classifier.support, read_support(more, classifier.config.preprocessing))


@pytest.mark.parametrize("method", ["prototypes", "probe", "reptile"])
def test_with_its_pictures_it_equals_adapting_to_the_union(
    init: Initialization, drawings: Path, more: Path, method: str
) -> None:
    first = adapt(init, drawings, method=method, steps=4, reject_rate=0.1)  # type: ignore[arg-type]
    found = extend(first, more, {"x": init}).classifier
    assert found.labels == ("ant", "bat", "bee", "cat")
    assert np.bincount(found.support.targets).tolist() == [4, 2, 6, 4]
    wanted = adapt(init, both(first, more), method=method, steps=4, reject_rate=0.1)  # type: ignore[arg-type]
    assert found.files() == wanted.files()


def test_prototypes_without_pictures_are_the_means_of_the_union(
    init: Initialization, drawings: Path, more: Path, tmp_path: Path
) -> None:
    first = adapt(init, drawings, method="prototypes", reject_rate=0.1)
    lean = load_classifier(save(first.without_pictures(), tmp_path / "lean"))
    assert len(lean.support.targets) == 0
    found = extend(lean, more, {}).classifier
    whole = both(first, more)
    seen = frozen_features(first.network(), torch.from_numpy(whole.images))
    for name, tensor in prototypes(seen, torch.from_numpy(whole.targets), 4, "conv4").items():
        torch.testing.assert_close(found.params[name], tensor, rtol=1e-5, atol=1e-5)
    assert found.config.temperature == first.config.temperature
    again = extend(load_classifier(save(found, tmp_path / "found")), more, {}).classifier
    assert again.class_sums is not None
    assert again.class_sums["counts"].tolist() == [4, 4, 8, 4]


def photographs(labels: str, first: int = 0, n: int = 2) -> SupportSet:
    """Noise, of one colour for each class."""
    images = [
        np.random.default_rng((ord(label), shot)).integers(0, 120, (32, 32, 3), np.uint8)
        + (np.uint8(ord(label) % 5 * 25) * np.array([1, 0, 1], np.uint8))
        for label in labels
        for shot in range(first, first + n)
    ]
    return SupportSet(images=np.stack(images), targets=np.repeat(np.arange(len(labels)), n), labels=tuple(labels))


@pytest.mark.parametrize("method", ["prototypes", "probe", "reptile"])
def test_a_classifier_of_photographs_equals_adapting_to_the_union(
    init: Initialization, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`reptile` moves the tail, at the rate that was chosen."""
    photo, steps = of_tails(init, "statistics"), 2 if method == "reptile" else None
    monkeypatch.setattr(EfficientNet, "tail_rates", (0.02,))
    first = adapt(photo, photographs("ac"), method=method, steps=steps, reject_rate=None)
    assert first.config.adaptation.learning_rate == (0.02 if steps else 0.01)
    more = photographs("bc", first=2)
    wanted = adapt(photo, union(first.support, more), method=method, steps=steps, reject_rate=None)
    monkeypatch.setattr(EfficientNet, "tail_rates", (0.5, 0.1))
    found = extend(first, more, {"x": photo}, reject_rate=None).classifier
    assert found.labels == ("a", "b", "c")
    assert found.files() == wanted.files()


def test_sums_of_photographs_without_pictures_are_those_of_the_union_in_every_view(
    init: Initialization, tmp_path: Path
) -> None:
    photo = of_tails(init, "statistics")
    first = adapt(photo, photographs("ac"), method="prototypes", reject_rate=None)
    lean = load_classifier(save(first.without_pictures(), tmp_path / "lean"))
    found = extend(lean, photographs("bc", first=2), {}).classifier
    wanted = adapt(photo, union(first.support, photographs("bc", first=2)), method="prototypes", reject_rate=None)
    for name in ("head.weight", "head.bias"):
        torch.testing.assert_close(found.params[name], wanted.params[name], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_extended_says_what_to_do(init: Initialization, drawings: Path, more: Path) -> None:
    classifier = adapt(init, drawings, steps=2, reject_rate=None)
    with pytest.raises(SupportError, match=r"made by reptile and cannot be extended: .* name its folder with --init"):
        extend(classifier, more, {})
    with pytest.raises(SupportError, match="keeps no pictures; adapt again to all of them, with --method prototypes"):
        extend(classifier.without_pictures(), more, {"x": init})


def test_a_single_class_can_be_added(init: Initialization, drawings: Path, tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "one", ("elk",), shots=2, first=4)
    found = extend(adapt(init, drawings, method="prototypes", reject_rate=None), folder, {}).classifier
    assert found.labels == ("ant", "bee", "cat", "elk")
    assert len(found.support.targets) == 14
    (folder / "elk" / "5.png").unlink()
    (folder / "elk" / "4.png").unlink()
    with pytest.raises(SupportError, match="no picture in the class folder elk"):
        extend(found, folder, {})


def of(support: SupportSet, rows: list[int], label: str) -> SupportSet:
    """Some pictures of a support set, all under one label."""
    return SupportSet(labels=(label,), images=support.images[rows], targets=np.zeros(len(rows), np.int64))


@pytest.mark.parametrize("method", ["prototypes", "probe", "reptile"])
def test_a_corrected_picture_counts_as_if_it_had_never_been_wrong(
    init: Initialization, drawings: Path, method: Method
) -> None:
    steps = 4 if method == "reptile" else None
    first = adapt(init, drawings, method=method, steps=steps, reject_rate=0.1)
    right, wrong = corrected(first.support, more := of(first.support, [1, 9], "bee"))
    assert [first.labels[target] for target in wrong.targets] == ["ant", "cat"]
    wanted = adapt(init, union(right, more), method=method, steps=steps, reject_rate=0.1)
    made = extend(first, more, {"x": init})
    assert np.bincount(made.classifier.support.targets).tolist() == [3, 6, 3]
    assert made.classifier.files() == wanted.files()
    assert made.reason.endswith("; 2 of the old are under another label now")


def test_sums_lose_what_was_under_a_wrong_label(init: Initialization, drawings: Path) -> None:
    first = adapt(init, drawings, method="prototypes", reject_rate=None)
    more = of(first.support, [1], "bee")
    found = extend(first, more, {}).classifier
    assert found.class_sums is not None
    assert found.class_sums["counts"].tolist() == [3, 5, 4]
    whole = found.support
    seen = frozen_features(first.network(), torch.from_numpy(whole.images))
    for name, tensor in prototypes(seen, torch.from_numpy(whole.targets), 3, "conv4").items():
        torch.testing.assert_close(found.params[name], tensor, rtol=1e-5, atol=1e-5)


def test_a_class_does_not_lose_its_last_picture(init: Initialization, drawings: Path) -> None:
    first = adapt(init, drawings, steps=2, reject_rate=None)
    with pytest.raises(
        SupportError, match=r"all pictures of ant are corrected to other classes; .*fewshot edit --drop"
    ):
        extend(first, of(first.support, [0, 1, 2, 3], "bee"), {"x": init})


def test_pictures_under_their_old_label_are_no_corrections(init: Initialization, drawings: Path) -> None:
    first = adapt(init, drawings, steps=2, reject_rate=None)
    right, wrong = corrected(first.support, of(first.support, [0, 1], "ant"))
    assert len(wrong.targets) == 0
    np.testing.assert_array_equal(right.images, first.support.images)


def test_a_threshold_outlives_an_extension_and_other_edits_do_not(
    init: Initialization, drawings: Path, tmp_path: Path
) -> None:
    first = adapt(init, drawings, method="reptile", steps=2)
    made = edited(first, Edit(renamed={"ant": "emu"}, threshold=0.7, sha256="ab"))
    grown = extend(made, draw_folder(tmp_path / "more", ("bee",), shots=1, first=4), {"x": init}).classifier
    assert grown.labels == ("bee", "cat", "emu")
    assert grown.config.threshold == 0.7
    assert grown.config.edits == (Edit(threshold=0.7, sha256="ab"),)
    assert grown.config.calibration is not None
