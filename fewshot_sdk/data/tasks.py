"""Few-shot tasks: task i is a pure function of (seed, i), so sharing the work and resuming need no state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.minibatches import independent_batches, schedule
from fewshot_sdk.errors import DataError

Seed = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One few-shot task. Images are uint8 (n, height, width, channels), labels int64 (n,).

    support: n_way * k_shot images, grouped by class; query: n_way * n_query, likewise.
    seed: determines the order of the inner mini-batches.
    """

    n_way: int
    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    seed: Seed


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskSampler:
    """Tasks of n_way classes, each with k_shot support and n_query query images; no image occurs twice in a task.

    Raises DataError if there are too few classes, or a class has too few images.
    """

    data: ClassImages
    n_way: int
    k_shot: int
    n_query: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.n_way, self.k_shot) < 1 or min(self.n_query, self.seed) < 0:
            raise DataError(
                "a task needs n_way and k_shot of at least 1, n_query and seed of at least 0, found "
                f"n_way={self.n_way}, k_shot={self.k_shot}, n_query={self.n_query}, seed={self.seed}"
            )
        if self.n_way > self.data.n_classes:
            raise DataError(
                f"{self.n_way}-way tasks need {self.n_way} classes, these of {self.data.name} are "
                f"{self.data.n_classes}; take fewer ways (--ways), or more classes, such as by another --split"
            )
        needed = self.k_shot + self.n_query
        for name, rows in zip(self.data.names, self.data.rows, strict=True):
            if len(rows) < needed:
                raise DataError(
                    f"class {name!r} has {len(rows)} images; {self.k_shot} shots and "
                    f"{self.n_query} queries need {needed}"
                )

    def task(self, index: int) -> Task:
        """Task number `index` of the endless sequence."""
        rng = np.random.default_rng((self.seed, index))
        support, query = [], []
        for class_index in rng.choice(self.data.n_classes, self.n_way, replace=False):
            n_images = self.data.n_images(class_index)
            drawn = rng.choice(n_images, self.k_shot + self.n_query, replace=False)
            images = self.data.take(int(class_index), drawn)
            support.append(images[: self.k_shot])
            query.append(images[self.k_shot :])
        labels = torch.arange(self.n_way)
        return Task(
            n_way=self.n_way,
            support=torch.from_numpy(np.concatenate(support)),
            support_labels=labels.repeat_interleave(self.k_shot),
            query=torch.from_numpy(np.concatenate(query)),
            query_labels=labels.repeat_interleave(self.n_query),
            seed=(self.seed, index),
        )


def mini_batches(n: int, batch_size: int, steps: int, seed: Seed, replacement: bool = False) -> Tensor:
    """`minibatches.schedule`, or `independent_batches` with replacement, as a tensor.

    int64 (steps, min(batch_size, n)).
    """
    return torch.from_numpy((independent_batches if replacement else schedule)(n, batch_size, steps, seed))
