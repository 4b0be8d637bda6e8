"""Sine waves: regression tasks, each a wave to learn from a few of its points.

Source: Nichol et al. 2018, section 2; Finn et al. 2017, section 5.1.
"""

from __future__ import annotations

import numpy as np
import torch

from fewshot_sdk.data.tasks import Task

POINTS = 50


def wave(index: int, seed: int, n_points: int = 10) -> Task:
    """The task of a wave a sin(x + b): all 50 points of [-5, 5], shuffled, as support set for training.

    The query set is n_points random others, to adapt to, and then the 50 points in order, so that errors can be
    measured over the whole wave.
    """
    rng = np.random.default_rng((seed, index))
    a, b = rng.uniform(0.1, 5), rng.uniform(0, 2 * np.pi)
    every = np.linspace(-5, 5, POINTS)

    def points(x: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(x).float()[:, None], torch.from_numpy(a * np.sin(x + b)).float()[:, None]

    x, y = points(rng.permutation(every))
    query, values = points(np.concatenate([rng.uniform(-5, 5, n_points), every]))
    return Task(n_way=1, support=x, support_labels=y, query=query, query_labels=values, seed=(seed, index))
