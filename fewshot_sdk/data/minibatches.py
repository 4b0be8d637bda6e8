"""The images of each inner step, the same for PyTorch and ONNX."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def schedule(n: int, batch_size: int, steps: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Row numbers of the images, out of n, for each inner step: int64 (steps, min(batch_size, n)).

    The steps go through the set pass after pass, shuffled anew each time; a batch may span two passes.
    Source: the reference implementation's `_mini_batches`.
    """
    rng = np.random.default_rng((*seed, 1))  # independent of the stream that drew the task
    size = min(batch_size, n)
    passes = -(-steps * size // n)
    order = np.concatenate([np.empty(0, np.int64), *(rng.permutation(n) for _ in range(passes))])
    return order[: steps * size].reshape(steps, size)


def independent_batches(n: int, batch_size: int, steps: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """The same, but each step draws from all n images again; no image occurs twice in a step.

    Source: the reference implementation's `_mini_batches`, with replacement.
    """
    rng = np.random.default_rng((*seed, 2))  # independent of the streams of the task and of `schedule`
    size = min(batch_size, n)
    rows = [rng.choice(n, size, replace=False) for _ in range(steps)]
    return np.array(rows, np.int64).reshape(steps, size)
