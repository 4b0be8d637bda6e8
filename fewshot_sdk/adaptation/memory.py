"""The patches that an inspector keeps of its good pictures, and the scores of pictures that are left out of them."""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot_sdk.nets.patches import distances, scores


def most_different(rows: Tensor, n: int) -> Tensor:
    """The `n` patches of each picture that are furthest apart, all if fewer: (pictures, patches, channels).

    Each next one is that whose nearest kept one is furthest away, by angle; the first is nearest to their mean, so
    that neither chance nor the order of the patches decides.
    Source: Sener and Savarese 2018, algorithm 1 (greedy k-centre), as in PatchCore, for each picture by itself: what
    is kept of one does not depend on the others, so that leaving a picture out leaves out its rows and nothing else.
    """
    if n >= rows.shape[1]:
        return rows
    every = torch.arange(len(rows))
    start = torch.einsum("npc,nc->np", rows, rows.mean(1)).argmax(1)
    kept, nearest = [start], torch.einsum("npc,nc->np", rows, rows[every, start])
    for _ in range(n - 1):
        kept.append(nearest.argmin(1))
        nearest = torch.maximum(nearest, torch.einsum("npc,nc->np", rows, rows[every, kept[-1]]))
    return rows[every[:, None], torch.stack(kept, 1)]


def quota(memory: int, pictures: int) -> int:
    """How many patches are kept of each picture, so that all together are at most `memory`, and one at least."""
    return max(1, memory // pictures)


def left_out_scores(patches: Tensor, kept: Tensor, top: int) -> Tensor:
    """The score of each picture by a memory of the others, (n,).

    patches: (n, positions, channels); kept: (n, quota, channels), what the memory has of each.
    """
    every = torch.arange(len(kept))
    found = [scores(distances(rows, kept[every != i].flatten(0, 1))[None], top) for i, rows in enumerate(patches)]
    return torch.cat(found)
