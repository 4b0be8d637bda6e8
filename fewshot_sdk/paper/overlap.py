"""The paper's sweeps: first-order MAML when its last mini-batch, whose gradient it follows, repeats earlier images.

Source: Nichol et al. 2018, section 6.3 and figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fewshot_sdk.algorithms import Algorithm
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import Conv4, InnerLoop, MetaLoop, Recipe
from fewshot_sdk.config.records import Mode
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.intervals import interval_of_few
from fewshot_sdk.paper.experiment import Classes, Experiment, Numbers, accuracy, open_classes, trained
from fewshot_sdk.paper.figures import SEEDS, Figure, Line, Panel, Scale, ahead, judged, points

K_SHOT, BATCH, STEPS = 20, 25, 4  # four mini-batches of 25 are all 100 images of a task


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the mini-batches of a task are drawn: see `MetaLoop`."""

    algorithm: Algorithm
    tail_shots: int = 0
    replacement: bool = False


SAMPLINGS = {
    "Reptile": Sampling(algorithm="reptile"),
    "Reptile, replacement": Sampling(algorithm="reptile", replacement=True),
    "separate tail": Sampling(algorithm="fomaml", tail_shots=5),
    "separate tail, replacement": Sampling(algorithm="fomaml", tail_shots=5, replacement=True),
    "shared tail": Sampling(algorithm="fomaml"),
    "shared tail, replacement": Sampling(algorithm="fomaml", replacement=True),
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained and measured. rate: learning rate; steps and batches: what the two panels sweep over."""

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


def recipe_of(sampling: Sampling, size: Size, steps: int, batch: int) -> Recipe:
    """The training recipe of one point."""
    base = preset("omniglot-5way")
    inner = InnerLoop(learning_rate=size.rate, batch_size=batch, steps=steps)
    meta = MetaLoop(
        algorithm=sampling.algorithm,
        tail_shots=sampling.tail_shots,
        replacement=sampling.replacement,
        meta_steps=size.meta_steps,
        tasks_per_step=size.tasks_per_step,
        n_way=5,
        k_shot=K_SHOT,
    )
    adaptation = InnerLoop(learning_rate=size.rate, batch_size=BATCH, steps=10)
    return base.replace(backbone=Conv4(filters=size.filters), inner=inner, adaptation=adaptation, meta=meta)


def measured(sampling: Sampling, size: Size, steps: int, batch: int, classes: Classes, seed: int) -> Numbers:
    """5-shot accuracy in percent, one number, after training with `steps` inner steps on mini-batches of `batch`."""
    recipe = recipe_of(sampling, size, steps, batch)
    tasks = TaskSampler(data=classes.train, n_way=5, k_shot=K_SHOT, seed=seed)
    (init,) = trained(recipe, tasks)
    modes: list[Mode] = ["transductive"]
    return [accuracy(init, classes.new, modes, shots=5, n_query=5, n_tasks=size.n_tasks, seed=1000 + seed)[modes[0]]]


def overlapping(steps: int, batch: int) -> float:
    """The share of the last mini-batch that was in an earlier one, when they cycle through the images of a task."""
    n = K_SHOT * 5
    return min(1.0, max(0.0, (steps * batch - n) / batch))


def shape(panels: list[Panel]) -> tuple[bool, str]:
    """Whether the paper's shape holds, and the test. panels: against steps and against batch size."""
    parts: dict[str, bool] = {}
    for panel, shares in zip(panels, shares_of(panels), strict=True):
        start, end = max(i for i, share in enumerate(shares) if share == 0), len(shares) - 1
        sweep = f"from {panel.x[start]:g} to {panel.x[end]:g} {panel.across}"
        rise = {
            line.name: [b - a for a, b in zip(line.each(start), line.each(end), strict=True)] for line in panel.lines
        }
        fall = interval_of_few([-each for each in rise["shared tail"]])
        parts[f"the shared tail falls {sweep} (by {points(fall)})"] = fall[0] > fall[1]
        for name in ("separate tail", "Reptile"):
            behind, own = ahead(rise[name], rise["shared tail"]), interval_of_few([-each for each in rise[name]])
            parts[f"it falls behind {name} {sweep} (by {points(behind)}), which itself falls by {points(own)}"] = (
                behind[0] > behind[1] and own[0] <= own[1]
            )
    by = (
        "where to fall, or to fall behind, means by more than the 95 % interval; Reptile and the separate tail must not"
    )
    return judged(parts, f"paired by seed, {by}")


def shares_of(panels: list[Panel]) -> tuple[list[float], list[float]]:
    """The overlap at each point of the two panels."""
    steps, batches = (panel.x for panel in panels)
    return [overlapping(int(k), BATCH) for k in steps], [overlapping(STEPS, int(b)) for b in batches]


def overlap(scale: Scale, command: str, seeds: Sequence[int] = SEEDS) -> Experiment:
    """Accuracy against inner steps and against batch size."""
    size = SIZES[scale]
    classes = open_classes(preset("omniglot-5way"), scale)
    batches = tuple(sorted({*size.batches, BATCH}))
    sweeps = [(k, BATCH) for k in size.steps], [(STEPS, b) for b in batches]

    def named(name: str, steps: int, batch: int, seed: int) -> str:
        return f"{name}, {steps} inner steps on batches of {batch}, seed {seed}"

    trials = {
        named(name, k, b, seed): partial(measured, sampling, size, k, b, classes, seed)
        for name, sampling in SAMPLINGS.items()
        for k, b in dict.fromkeys([*sweeps[0], *sweeps[1]])
        for seed in seeds
    }

    def panel(found: Mapping[str, Numbers], across: str, x: Sequence[int], sweep: list[tuple[int, int]]) -> Panel:
        lines = tuple(
            Line(name=name, values=tuple(tuple(found[named(name, k, b, seed)][0] for k, b in sweep) for seed in seeds))
            for name in SAMPLINGS
        )
        return Panel(across=across, x=tuple(x), lines=lines)

    def figure(found: Mapping[str, Numbers]) -> Figure:
        first = panel(found, f"inner steps on batches of {BATCH}", size.steps, sweeps[0])
        beside = panel(found, f"images in each of {STEPS} inner batches", batches, sweeps[1])
        holds, verdict = shape([first, beside])
        return Figure(
            name="overlap",
            command=command,
            seeds=tuple(seeds),
            across=first.across,
            x=first.x,
            lines=first.lines,
            up="accuracy on new classes, %",
            beside=beside,
            holds=holds,
            verdict=(
                f"{verdict} A mini-batch repeats images from 5 steps of {BATCH} on, and with more than {BATCH} in 4 "
                f"steps: a task has {K_SHOT * 5}. The separate tail is always {BATCH} images, and the batches before "
                f"it hold at most {K_SHOT * 5 - BATCH}. 5-way 5-shot on {classes.about}, transductive, "
                f"{size.n_tasks:,} tasks a seed, 10 steps of Adam at {size.rate:g}; {size.filters} filters, "
                f"{size.meta_steps:,} outer steps (tasks in each: {size.tasks_per_step}), step size 1 to 0."
            ),
        )

    return Experiment(trials=trials, figure=figure, about=classes.notice)
