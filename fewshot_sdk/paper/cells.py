"""The paper's two tables of accuracies, and the test of whether others have their shape.

Source: Nichol et al. 2018, tables 1 and 2; Finn et al. 2017 for MAML and its first-order form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fewshot_sdk.algorithms import Algorithm
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.records import Mode
from fewshot_sdk.paper.figures import Line, ahead, judged, points

Name = Literal["table1", "table2"]
Cell = tuple[str, int]  # preset, shots
SHOTS = (1, 5)
ROWS: dict[str, tuple[Algorithm, Mode]] = {
    "MAML + transduction": ("maml", "transductive"),
    "1st-order MAML + transduction": ("fomaml", "transductive"),
    "Reptile": ("reptile", "inductive"),
    "Reptile + transduction": ("reptile", "transductive"),
}
PRESETS: dict[Name, tuple[str, ...]] = {
    "table1": ("mini-imagenet-5way",),
    "table2": ("omniglot-5way", "omniglot-20way"),
}
PAPER: dict[Name, dict[str, tuple[tuple[float, float], ...]]] = {
    "table1": {
        "MAML + transduction": ((48.70, 1.84), (63.11, 0.92)),
        "1st-order MAML + transduction": ((48.07, 1.75), (63.15, 0.91)),
        "Reptile": ((47.07, 0.26), (62.74, 0.37)),
        "Reptile + transduction": ((49.97, 0.32), (65.99, 0.58)),
    },
    "table2": {
        "MAML + transduction": ((98.7, 0.4), (99.9, 0.1), (95.8, 0.3), (98.9, 0.2)),
        "1st-order MAML + transduction": ((98.3, 0.5), (99.2, 0.2), (89.4, 0.5), (97.9, 0.1)),
        "Reptile": ((95.39, 0.09), (98.90, 0.10), (88.14, 0.15), (96.65, 0.33)),
        "Reptile + transduction": ((97.68, 0.04), (99.48, 0.06), (89.43, 0.14), (97.12, 0.32)),
    },
}
NEAR = 3.0  # points by which Reptile may be behind first-order MAML or, at paper scale, behind the paper


def paper_lines(name: Name) -> dict[str, Line]:
    """The paper's accuracies with their intervals, by row."""
    return {
        row: Line(
            name=f"{row}, paper",
            values=(tuple(mean for mean, _ in values),),
            theory=True,
            halves=tuple(half for _, half in values),
        )
        for row, values in PAPER[name].items()
    }


def shape(ours: Mapping[str, Line], cells: list[Cell], paper: Mapping[str, Line] | None = None) -> tuple[bool, str]:
    """Whether the paper's shape holds, and the test. ours: a line for each of ROWS; paper: lines they must be near."""
    every = range(len(cells))
    inductive, transductive = ours["Reptile"], ours["Reptile + transduction"]
    gain = ahead(transductive.over(every), inductive.over(every))
    lines = [line for line in ours.values() if any(map(line.has, every))]
    n_ways = {name: preset(name).meta.n_way for name, _ in cells}
    orders = {
        "five shots score higher than one": [
            (i, j) for i, (a, k) in enumerate(cells) for j, (b, m) in enumerate(cells) if a == b and k > m
        ],
        "fewer classes score higher": [
            (i, j)
            for i, (a, k) in enumerate(cells)
            for j, (b, m) in enumerate(cells)
            if k == m and n_ways[a] < n_ways[b]
        ],
    }
    parts = {f"transduction helps Reptile (by {points(gain)} over all cells)": gain[0] > gain[1]}
    for order, pairs in orders.items():
        gains = [ahead(line.each(i), line.each(j)) for line in lines for i, j in pairs if line.has(i) and line.has(j)]
        if gains:
            least = min(gains, key=lambda found: found[0] - found[1])
            parts[f"{order} (smallest gap in a row: {points(least)})"] = least[0] > least[1]
    first_order = ours["1st-order MAML + transduction"]
    behind = max(first_order.at(i)[0] - transductive.at(i)[0] for i in every)
    parts[f"in no cell is Reptile more than {NEAR:g} points behind first-order MAML (worst: {behind:.1f})"] = (
        behind <= NEAR
    )
    if paper:
        off = max(
            paper[name].at(i)[0] - ours[name].at(i)[0] for name in ("Reptile", "Reptile + transduction") for i in every
        )
        parts[f"nor behind the paper's Reptile (worst: {off:.1f})"] = off <= NEAR
    return judged(parts, "paired by seed, where helping and scoring higher mean by more than the 95 % interval")
