from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.domains import SHARES, DomainTasks, photographs
from fewshot_sdk.data.styles import STYLES
from fewshot_sdk.errors import DataError
from tests.conftest import drawn_glyphs, tiny_recipe
from tests.nets.test_efficientnet import PHOTO


def coloured(n_classes: int = 6, side: int = 32, channels: int = 3) -> ClassImages:
    """Classes of patches of colour, five pictures each."""
    patches = np.random.default_rng(0).integers(0, 256, (n_classes, 4, 4, channels), np.uint8)
    images = patches.repeat(side // 4, 1).repeat(side // 4, 2).repeat(5, 0)
    rows = tuple(np.arange(5 * c, 5 * c + 5) for c in range(n_classes))
    return ClassImages(images=images, rows=rows, names=tuple("abcdefghij"[:n_classes]), source="patches")


def domains(**changes: object) -> DomainTasks:
    parts: dict[str, object] = {
        "photographs": coloured(), "drawings": drawn_glyphs(tiny_recipe()), "n_way": 4, "k_shot": 3,
    }  # fmt: skip
    return DomainTasks(**{**parts, **changes})  # type: ignore[arg-type]


def test_a_task_is_a_pure_function_of_the_seed_and_its_number() -> None:
    tasks, again, others = domains(), domains(), domains(seed=1)
    expected = [tasks.task(i) for i in range(8)]
    for i in reversed(range(8)):
        assert torch.equal(again.task(i).support, expected[i].support)
        assert not torch.equal(others.task(i).support, expected[i].support)
        assert expected[i].seed == (0, i)
    assert (again.digest, others.digest) == (tasks.digest, domains(seed=1).digest)
    assert tasks.digest != others.digest


@pytest.mark.parametrize("domain", SHARES)
def test_every_domain_gives_distinct_classes_of_images_of_the_right_shape(domain: str) -> None:
    tasks = domains(shares={domain: 1.0})
    for i in range(3):
        task = tasks.task(i)
        assert (task.support.shape, task.support.dtype) == ((12, 32, 32, 3), torch.uint8)
        assert task.support_labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
        assert (task.n_way, len(task.query), len(task.query_labels)) == (4, 0, 0)
        by_class = task.support.reshape(4, -1)
        assert len(torch.unique(by_class, dim=0)) == 4
        if domain != "textures":  # a fine one is blank at 32 pixels
            assert all(image.float().std() > 0 for image in task.support)


def test_the_domains_are_the_styles_and_two_more_and_come_in_their_shares() -> None:
    assert SHARES.keys() == {*STYLES, "drawings", "textures"}
    assert sum(SHARES.values()) == pytest.approx(1)
    tasks = domains(shares={"colour": 3.0, "drawings": 1.0})
    grey = [bool((np.ptp(tasks.task(i).support.numpy(), axis=3) == 0).all()) for i in range(80)]
    assert np.mean(grey) == pytest.approx(0.25, abs=0.15)


def test_a_task_has_different_classes_and_different_pictures_of_each() -> None:
    """With as many classes and pictures as there are, each is drawn once."""
    data = coloured(4)
    flat = np.arange(20, dtype=np.uint8)[:, None, None, None] * 10 + np.zeros_like(data.images)
    tasks = domains(
        photographs=replace(data, images=flat), n_way=4, k_shot=5, shares={"negative": 1.0}
    )  # without light
    seen = tasks.task(0).support.float().mean((1, 2, 3)).round()
    assert sorted(seen.tolist()) == [255 - 10 * i for i in reversed(range(20))]
    assert all(len({int(255 - value) // 50 for value in row}) == 1 for row in seen.view(4, 5))


def test_drawings_are_grey_scaled_to_the_photographs_and_at_times_inverted() -> None:
    tasks = domains(shares={"drawings": 1.0})
    means = []
    for i in range(20):
        support = tasks.task(i).support
        assert (support.amax(3) == support.amin(3)).all()
        means.append(float(support.float().mean()))
    dark = np.mean([mean < 128 for mean in means])
    assert 0.05 < dark < 0.6


def test_too_few_classes_or_pictures_and_odd_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="patches: expected 7 classes of 3 images, found 6 of at least 5"):
        domains(n_way=7)
    with pytest.raises(DataError, match="expected 4 classes of 6 images, found 6 of at least 5"):
        domains(k_shot=6)
    with pytest.raises(DataError, match="expected square images in colour, found 32 x 32 x 1"):
        domains(photographs=coloured(channels=1))
    with pytest.raises(DataError, match=r"shares: expected numbers above 0 for some of colour, .*'sketches': 1"):
        domains(shares={"sketches": 1.0})
    for shares in ({}, {"colour": 0.0}, {"colour": 1.0, "grey": -1.0}):
        with pytest.raises(DataError, match="shares: expected numbers above 0"):
            domains(shares=shares)


def test_photographs_of_a_folder_are_classes_of_images(tmp_path: Path) -> None:
    for label, colour in (("sky", (10, 20, 200)), ("grass", (10, 200, 20))):
        (tmp_path / "in" / label).mkdir(parents=True)
        for shot in range(3):
            pixels = np.random.default_rng(shot).integers(0, 56, (40, 50, 3), np.uint8) + np.array(colour, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "in" / label / f"{shot}.png")
    found = photographs(tmp_path / "in", PHOTO)
    assert (found.names, found.images.shape) == (("grass", "sky"), (6, 32, 32, 3))
    assert found.images.dtype == np.uint8
    assert [found.n_images(c) for c in range(2)] == [3, 3]
    assert found.take(0, [0, 1, 2])[..., 1].mean() > found.take(1, [0, 1, 2])[..., 1].mean()
    assert found.digest == photographs(tmp_path / "in", PHOTO).digest
    (tmp_path / "in" / "sky" / "2.png").unlink()
    assert found.digest != photographs(tmp_path / "in", PHOTO).digest
