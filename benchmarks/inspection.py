"""How well an inspector tells good pictures from others, on a folder of class folders.

    python -m benchmarks.inspection FOLDER [--good CLASS] [--shots 1,4,16] [--splits N] [--bad N] [--seed N]
        [--json]

Each class in turn is the good one (or that of `--good` alone) and pictures of all others, at most `--bad` of each, are
bad. In each split so many good pictures are drawn to learn from, and the other good ones and the bad ones are scored.
Prints the area under the ROC curve, the mean over classes of its mean over splits, and the 95 % interval of that over
the splits (Student's t): of the inspector, which keeps pictures as they are taken; and of PatchCore as published, in
ten lines, on the same network and splits: stages 3 and 5, averaged over 3 x 3 positions, a memory of every patch,
Euclidean distances, and the largest of them. The splits share pictures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewshot_sdk.adaptation.inspection import Seen
from fewshot_sdk.adaptation.memory import most_different, quota
from fewshot_sdk.artifacts.opening import load
from fewshot_sdk.config.inspection import PatchSettings
from fewshot_sdk.images.support import read_support
from fewshot_sdk.intervals import interval_of_few
from fewshot_sdk.nets.patches import distances, patch_network, patches, scores
from fewshot_sdk.runtime.calibration import auroc

Judge = Callable[[Tensor, Tensor], Tensor]  # from patches of good pictures and of others to scores of the others


def ours(settings: PatchSettings) -> Judge:
    """The inspector's scores."""

    def judge(good: Tensor, others: Tensor) -> Tensor:
        memory = most_different(good, quota(settings.memory, len(good))).flatten(0, 1)
        return torch.cat([scores(distances(rows, memory)[None], settings.top) for rows in others])

    return judge


def patchcore(good: Tensor, others: Tensor) -> Tensor:
    """PatchCore's scores."""
    memory = good.flatten(0, 1)
    square = memory.square().sum(1)
    nearest = [(square - 2 * rows @ memory.T).min(1).values + rows.square().sum(1) for rows in others]
    return torch.stack([rows.clamp_min(0).max().sqrt() for rows in nearest])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--good")
    parser.add_argument("--shots", default="1,4,16")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--bad", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    init, settings = load("photo"), PatchSettings()
    support = read_support(given.folder, init.recipe.preprocessing)
    network = patch_network(init.recipe.backbone, init.recipe.preprocessing, settings)
    network.load_state_dict({name: init.state.params[name] for name in network.state_dict()})
    plain = PatchSettings(stages=(3, 5), neighbourhood=3)
    with torch.no_grad():
        ways: dict[str, tuple[Tensor, Judge]] = {
            "inspector": (Seen(network, settings, init.recipe.preprocessing)(support.images), ours(settings)),
            "PatchCore": (
                torch.cat(
                    [patches(network.outputs(b), plain) for b in torch.split(torch.from_numpy(support.images), 8)]
                ),
                patchcore,
            ),
        }
        print("| good pictures | " + " | ".join(ways) + " |\n|---|" + "---|" * len(ways))
        figures: dict[str, list[float]] = {}
        for shots in map(int, given.shots.split(",")):
            cells = []
            for rows, judge in ways.values():
                splits = [
                    _split(rows, judge, support.labels, support.targets, given, shots, i) for i in range(given.splits)
                ]
                mean, half = interval_of_few(splits)
                figures.setdefault(str(shots), []).append(mean)
                cells.append(f"{mean:.3f} ± {half:.3f}")
            print(f"| {shots} | " + " | ".join(cells) + " |", flush=True)

        if given.json:
            print(json.dumps(figures))


def _split(
    rows: Tensor, judge: Judge, labels: tuple[str, ...], targets: np.ndarray, given: argparse.Namespace, shots: int,
    number: int,
) -> float:  # fmt: skip
    found = []
    for target, label in enumerate(labels):
        if given.good not in (None, label):
            continue
        rng = np.random.default_rng((given.seed, number, target))
        good = rng.permutation(np.flatnonzero(targets == target))
        each = [rng.permutation(np.flatnonzero(targets == other))[: given.bad] for other in range(len(labels))]
        bad = np.concatenate([rows_of for other, rows_of in enumerate(each) if other != target])
        found_scores = judge(rows[good[:shots]], rows[np.concatenate([good[shots:], bad])]).double().numpy()
        cut = len(good) - shots
        found.append(auroc(found_scores[cut:], found_scores[:cut]))
    return float(np.mean(found))


if __name__ == "__main__":
    main()
