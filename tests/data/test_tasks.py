from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.tasks import TaskSampler, mini_batches
from fewshot_sdk.errors import DataError


def numbered(n_classes: int = 6, n_images: int = 8, rotations: int = 1) -> ClassImages:
    """Image i of class c is 2 x 2 pixels of value 10 c + i."""
    values = np.array([10 * c + i for c in range(n_classes) for i in range(n_images)], np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (len(values), 2, 2, 1)).copy()
    return ClassImages(
        images=images,
        rows=tuple(np.arange(n_images) + c * n_images for c in range(n_classes)),
        names=tuple(f"class{c}" for c in range(n_classes)),
        source="numbered test",
        rotations=rotations,
    )


def test_a_task_is_a_pure_function_of_seed_and_index() -> None:
    first, second = (TaskSampler(data=numbered(), n_way=3, k_shot=2, n_query=1, seed=5) for _ in range(2))
    second.task(0)
    assert torch.equal(first.task(7).support, second.task(7).support)
    assert not torch.equal(first.task(7).support, first.task(8).support)
    assert not torch.equal(first.task(7).support, replace(first, seed=6).task(7).support)


def test_support_and_query_are_of_the_same_classes_and_share_no_image() -> None:
    sampler = TaskSampler(data=numbered(), n_way=4, k_shot=5, n_query=3)
    for index in range(50):
        task = sampler.task(index)
        support, query = task.support[:, 0, 0, 0], task.query[:, 0, 0, 0]
        assert len(set(support.tolist()) | set(query.tolist())) == 4 * 8
        for label in range(4):
            classes = set((support[task.support_labels == label] // 10).tolist())
            assert len(classes) == 1
            assert set((query[task.query_labels == label] // 10).tolist()) == classes


def test_every_class_is_drawn_about_equally_often() -> None:
    sampler = TaskSampler(data=numbered(), n_way=2, k_shot=1)
    drawn = np.concatenate([sampler.task(i).support[:, 0, 0, 0].numpy() // 10 for i in range(600)])
    counts = np.bincount(drawn, minlength=6)
    assert counts.sum() == 1200
    assert np.abs(counts - 200).max() < 60  # about 5 standard deviations


def test_turned_classes_are_classes_of_their_own() -> None:
    corner = np.zeros((1, 2, 2, 1), np.uint8)
    corner[0, 0, 0, 0] = 255
    data = ClassImages(images=corner, rows=(np.array([0]),), names=("a",), source="corner", rotations=4)
    assert data.n_classes == 4
    corners = {tuple(map(int, np.argwhere(data.take(c, [0])[0, :, :, 0])[0])) for c in range(4)}
    assert corners == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_turned_four_times_is_a_full_turn() -> None:
    data = numbered(rotations=4)
    assert [data.n_images(c) for c in range(8)] == [8] * 8
    assert data.take(4, [3])[0, 0, 0, 0] == 13  # class 4 is class 1, unrotated


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_way": 7, "k_shot": 1}, "7-way tasks need 7 classes, these of numbered are 6"),
        ({"n_way": 2, "k_shot": 8, "n_query": 1}, "'class0' has 8 images; 8 shots and 1 queries need 9"),
        ({"n_way": 2, "k_shot": 0}, "at least 1"),
    ],
)
def test_too_little_data_is_reported_when_the_sampler_is_made(settings: dict[str, int], says: str) -> None:
    with pytest.raises(DataError, match=says):
        TaskSampler(data=numbered(), **settings)


def test_mini_batches_go_through_the_whole_set_before_any_image_returns() -> None:
    batches = mini_batches(10, 4, 5, (1, 2))
    assert batches.shape == (5, 4)
    passes = batches.flatten().view(2, 10)
    assert all(sorted(p.tolist()) == list(range(10)) for p in passes)
    assert passes[0].tolist() != passes[1].tolist()


def test_a_mini_batch_may_straddle_two_passes() -> None:
    batches = mini_batches(5, 4, 5, (0,)).flatten()
    assert all(sorted(batches[i : i + 5].tolist()) == list(range(5)) for i in range(0, 20, 5))


def test_a_batch_is_never_larger_than_the_set() -> None:
    assert mini_batches(3, 10, 2, (0,)).shape == (2, 3)


def test_with_replacement_each_mini_batch_is_drawn_from_all() -> None:
    batches = mini_batches(20, 15, 4, (3, 2), replacement=True)
    assert all(len(set(batch.tolist())) == 15 for batch in batches)  # none twice in one
    assert len({frozenset(batch.tolist()) for batch in batches}) == 4
    assert torch.equal(batches, mini_batches(20, 15, 4, (3, 2), replacement=True))
    assert not torch.equal(batches, mini_batches(20, 15, 4, (3, 1), replacement=True))
    assert mini_batches(3, 10, 2, (0,), replacement=True).shape == (2, 3)
    assert mini_batches(3, 10, 0, (0,), replacement=True).shape == (0, 3)


def test_the_order_is_a_pure_function_of_the_seed() -> None:
    assert torch.equal(mini_batches(9, 4, 6, (3, 1)), mini_batches(9, 4, 6, (3, 1)))
    assert not torch.equal(mini_batches(9, 4, 6, (3, 1)), mini_batches(9, 4, 6, (3, 2)))


def test_the_digest_names_classes_pixels_and_rotations() -> None:
    data = numbered()
    digests = {data.digest, data.subset([0, 1]).digest, data.subset(range(6), rotations=4).digest}
    assert len(digests) == 3
    assert data.digest == numbered().digest
