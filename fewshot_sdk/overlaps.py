"""What happens when the last mini-batch, whose gradient first-order MAML follows, was seen before: the paper's sweeps.

Source: Nichol et al. 2018, section 6.3 and figure 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fewshot_sdk.algorithms import Algorithm
from fewshot_sdk.config import Conv4, InnerLoop, MetaLoop, Recipe
from fewshot_sdk.figures import SEEDS, Figure, Line, Panel, Scale, ahead, judged, points
from fewshot_sdk.presets import preset
from fewshot_sdk.records import Mode
from fewshot_sdk.tasks import Task, TaskSampler, mini_batches
from fewshot_sdk.trials import Classes, accuracy, open_classes, trained

K_SHOT, BATCH, STEPS = 20, 25, 4  # four mini-batches of 25 are all 100 images of a task


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the mini-batches of a task are drawn. tail_shots: see `MetaLoop`; replacement: each from all images anew."""

    algorithm: Algorithm
    tail_shots: int = 0
    replacement: bool = False


WAYS = {
    "Reptile": Way(algorithm="reptile"),
    "separate tail": Way(algorithm="fomaml", tail_shots=5),
    "shared tail": Way(algorithm="fomaml"),
    "shared tail, replacement": Way(algorithm="fomaml", replacement=True),
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained and measured; steps and batches: what the two panels go over."""

    meta_steps: int
    tasks_per_step: int
    filters: int
    rate: float
    n_tasks: int
    steps: tuple[int, ...]
    batches: tuple[int, ...]


# Small: chosen on the last 200 of the 1,200 training characters. Paper: its inner optimizer for Omniglot, and the outer
# steps of its gradient combinations, since those of this figure are not known to us.
SIZES: dict[Scale, Size] = {
    "small": Size(
        meta_steps=250, tasks_per_step=1, filters=16, rate=0.003, n_tasks=40, steps=(2, 4, 6, 8), batches=(10, 100)
    ),
    "paper": Size(
        meta_steps=40_000,
        tasks_per_step=1,
        filters=64,
        rate=0.001,
        n_tasks=1000,
        steps=tuple(range(2, 9)),
        batches=(10, 15, 20, 25, 35, 50, 75, 100),
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Redrawn(TaskSampler):
    """Tasks whose every mini-batch is drawn from all images anew, none twice in one.

    Their support sets are these mini-batches, each where the inner loop's schedule looks for it.
    Source: the reference implementation's `_mini_batches`, with replacement.
    """

    batch_size: int
    steps: int

    def task(self, index: int) -> Task:
        """Task number `index` of the endless stream."""
        task = super().task(index)
        n, size = len(task.support), min(self.batch_size, len(task.support))
        rng = np.random.default_rng((self.seed, index, 2))  # apart from the streams of the task and of its schedule
        drawn = torch.from_numpy(np.concatenate([rng.choice(n, size, replace=False) for _ in range(self.steps)]))
        order = mini_batches(self.steps * size, size, self.steps, task.seed).flatten()
        place = torch.empty_like(order)
        place[order] = drawn
        return replace(task, support=task.support[place], support_labels=task.support_labels[place])


def recipe_of(way: Way, size: Size, steps: int, batch: int) -> Recipe:
    """The training of one point."""
    base = preset("omniglot-5way")
    inner = InnerLoop(learning_rate=size.rate, batch_size=batch, steps=steps)
    meta = MetaLoop(
        algorithm=way.algorithm,
        tail_shots=way.tail_shots,
        meta_steps=size.meta_steps,
        tasks_per_step=size.tasks_per_step,
        n_way=5,
        k_shot=K_SHOT,
    )
    adaptation = InnerLoop(learning_rate=size.rate, batch_size=BATCH, steps=10)
    return base.replace(backbone=Conv4(filters=size.filters), inner=inner, adaptation=adaptation, meta=meta)


def measured(way: Way, size: Size, steps: int, batch: int, classes: Classes, seed: int) -> float:
    """Percent of queries right, 5-shot, after a training with so many inner steps on such mini-batches."""
    recipe = recipe_of(way, size, steps, batch)
    tasks = TaskSampler(data=classes.train, n_way=5, k_shot=K_SHOT, seed=seed)
    if way.replacement:
        tasks = Redrawn(data=classes.train, n_way=5, k_shot=K_SHOT, seed=seed, batch_size=batch, steps=steps)
    (init,) = trained(recipe, tasks)
    modes: list[Mode] = ["transductive"]
    return accuracy(init, classes.new, modes, shots=5, n_query=5, n_tasks=size.n_tasks, seed=1000 + seed)[modes[0]]


def overlapping(steps: int, batch: int) -> float:
    """The share of the last mini-batch that an earlier one of the same task saw, when they cycle through its images."""
    n = K_SHOT * 5
    return min(1.0, max(0.0, (steps * batch - n) / batch))


def shape(panels: list[Panel]) -> tuple[bool, str]:
    """Whether the paper's shape holds, and by which test, of the panels against steps and against batch size."""
    parts: dict[str, bool] = {}
    for panel, shares in zip(panels, shares_of(panels), strict=True):
        apart = [i for i, share in enumerate(shares) if share == 0]
        last = len(shares) - 1
        separate, shared = panel.line("separate tail"), panel.line("shared tail")
        before = ahead(separate.over(apart), shared.over(apart))
        after = ahead(separate.each(last), shared.each(last))
        at = f"{panel.x[last]:g} {panel.across}"
        parts[
            f"at {at} the shared tail is behind the separate one (by {points(after)}) by more than where its images "
            f"are new ({points(before)})"
        ] = after[0] > max(after[1], before[0])
        for name in ("separate tail", "Reptile"):
            kept = ahead(panel.line(name).each(last), panel.line(name).each(apart[-1]))
            parts[f"{name} does not fall from {panel.x[apart[-1]]:g} to {at} ({points(kept)})"] = kept[0] > -kept[1]
    return judged(parts, "paired by seed, where to be behind and to fall is by more than the 95 % interval")


def shares_of(panels: list[Panel]) -> tuple[list[float], list[float]]:
    """The overlap at each point of both panels."""
    steps, batches = (panel.x for panel in panels)
    return [overlapping(int(k), BATCH) for k in steps], [overlapping(STEPS, int(b)) for b in batches]


def overlap(scale: Scale, command: str, seeds: Sequence[int] = SEEDS) -> Iterator[Figure | str]:
    """Yields what each training ended in, as a sentence, then the figure: accuracy against steps and batch size."""
    size = SIZES[scale]
    classes = open_classes(preset("omniglot-5way"), scale)
    yield classes.said
    batches = tuple(sorted({*size.batches, BATCH}))
    sweeps = [(k, BATCH) for k in size.steps], [(STEPS, b) for b in batches]
    found: dict[tuple[str, int, int, int], float] = {}
    for name, way in WAYS.items():
        for k, b in dict.fromkeys([*sweeps[0], *sweeps[1]]):
            for seed in seeds:
                found[name, k, b, seed] = measured(way, size, k, b, classes, seed)
            shown = ", ".join(f"{found[name, k, b, seed]:.1f}" for seed in seeds)
            yield f"{name}, {k} inner steps on batches of {b}: {shown} %"
    panels = [
        Panel(
            across=across,
            x=x,
            lines=tuple(
                Line(name=name, values=tuple(tuple(found[name, k, b, seed] for k, b in sweep) for seed in seeds))
                for name in WAYS
            ),
        )
        for across, x, sweep in zip(
            (f"inner steps on batches of {BATCH}", f"images in each of {STEPS} inner batches"),
            (size.steps, batches),
            sweeps,
            strict=True,
        )
    ]
    holds, verdict = shape(panels)
    yield Figure(
        name="overlap",
        command=command,
        seeds=tuple(seeds),
        across=panels[0].across,
        x=panels[0].x,
        lines=panels[0].lines,
        up="accuracy on new classes, %",
        beside=panels[1],
        holds=holds,
        verdict=(
            f"{verdict} A mini-batch repeats images from 5 steps of {BATCH} on, and with more than {BATCH} in 4 steps: "
            f"a task has {K_SHOT * 5}. The separate tail is always {BATCH} images, and the batches before it are of at "
            f"most {K_SHOT * 5 - BATCH}. 5-way 5-shot on {classes.about}, transductive, {size.n_tasks:,} tasks a seed, "
            f"10 steps of Adam at {size.rate:g}; {size.filters} filters, {size.meta_steps:,} outer steps "
            f"(tasks in each: {size.tasks_per_step}), step size 1 to 0."
        ),
    )
