"""The paper's comparison of directions for the outer loop: sums, means and the last of the inner loop's gradients.

Source: Nichol et al. 2018, section 6.2 and figure 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fewshot_sdk.algorithms import Algorithm
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.recipe import Conv4, InnerLoop, MetaLoop, Recipe
from fewshot_sdk.config.records import Mode
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.paper.experiment import Classes, Experiment, Numbers, accuracy, line_of, open_classes, trained
from fewshot_sdk.paper.figures import SEEDS, Figure, Scale, ahead, judged, points

# name: inner steps, algorithm, outer step size. Reptile follows the sum, first-order MAML the last gradient.
COMBINATIONS: dict[str, tuple[int, Algorithm, float]] = {
    "g1": (1, "reptile", 0.25),
    "g1+g2": (2, "reptile", 0.25),
    "(g1+g2)/2": (2, "reptile", 0.125),
    "g2": (2, "fomaml", 0.25),
    "g1+g2+g3": (3, "reptile", 0.25),
    "(g1+g2+g3)/3": (3, "reptile", 0.08325),
    "g3": (3, "fomaml", 0.25),
    "g1+g2+g3+g4": (4, "reptile", 0.25),
    "(g1+g2+g3+g4)/4": (4, "reptile", 0.0625),
    "g4": (4, "fomaml", 0.25),
}
BATCH, SHOTS = 25, 5


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained and measured. rate: inner learning rate; points: how often accuracy is measured."""

    meta_steps: int
    filters: int
    rate: float
    points: int
    n_tasks: int


# The paper's rate is 0.003 for the sum of a mini-batch's losses, as in the reference implementation; for the mean,
# which we use, that is 25 times as much. Small: chosen on the last 200 of the 1,200 training characters. A rate of 0.1
# with a quarter of the step sizes and 800 steps was tried before: too few to separate the lower curves by three seeds.
SIZES: dict[Scale, Size] = {
    "small": Size(meta_steps=2000, filters=16, rate=0.03, points=4, n_tasks=40),
    "paper": Size(meta_steps=40_000, filters=64, rate=0.003 * BATCH, points=20, n_tasks=200),
}


def recipe_of(name: str, size: Size) -> Recipe:
    """The training recipe of one combination, with just enough shots to fill its mini-batches once."""
    steps, algorithm, step_size = COMBINATIONS[name]
    inner = InnerLoop(optimizer="sgd", learning_rate=size.rate, batch_size=BATCH, steps=steps)
    meta = MetaLoop(
        algorithm=algorithm,
        meta_steps=size.meta_steps,
        tasks_per_step=1,
        n_way=5,
        k_shot=SHOTS * steps,
        step_size=step_size,
    )
    return preset("omniglot-5way").replace(
        backbone=Conv4(filters=size.filters), inner=inner, adaptation=inner.replace(steps=5), meta=meta
    )


def shape(curves: Mapping[str, Sequence[float]]) -> tuple[bool, str]:
    """Whether the paper's shape holds, and the test. curves: by name, each seed's accuracy averaged over training."""
    sums = ["g1", "g1+g2", "g1+g2+g3", "g1+g2+g3+g4"]
    rises = [ahead(curves[more], curves[fewer]) for fewer, more in itertools.pairwise(sums)]
    lead = {name: ahead(values, curves["g1"]) for name, values in curves.items() if name != "g1"}
    behind = ahead(curves["g2"], curves["g1+g2"])
    lowest = min(lead, key=lambda name: lead[name][0])
    parts = {
        f"g1 alone is behind all others (the nearest, {lowest}, by {points(lead[lowest])})": lead[lowest][0] > 0,
        f"each further gradient in the sum helps (by {', '.join(map(points, rises))})": all(m > h for m, h in rises),
        f"g1+g2 is behind g2 (by {points(behind)})": behind[0] > 0,
    }
    holds, verdict = judged(parts, "on accuracy averaged over the curve, paired by seed")
    return (
        holds,
        f"{verdict} A further gradient must help by more than the 95 % interval; the rest must hold on average.",
    )


def measured(name: str, size: Size, classes: Classes, seed: int) -> Numbers:
    """5-shot accuracy in percent at each point of a training run."""
    recipe = recipe_of(name, size)
    tasks = TaskSampler(data=classes.train, n_way=5, k_shot=recipe.meta.k_shot, seed=seed)
    modes: list[Mode] = ["transductive"]
    return [
        accuracy(init, classes.new, modes, shots=SHOTS, n_query=5, n_tasks=size.n_tasks, seed=1000 + seed)[modes[0]]
        for init in trained(recipe, tasks, size.meta_steps // size.points)
    ]


def gradient_combinations(scale: Scale, command: str, seeds: Sequence[int] = SEEDS) -> Experiment:
    """Accuracy against outer steps."""
    size = SIZES[scale]
    classes = open_classes(preset("omniglot-5way"), scale)
    trials = {
        f"{name}, seed {seed}": partial(measured, name, size, classes, seed) for name in COMBINATIONS for seed in seeds
    }

    def figure(found: Mapping[str, Numbers]) -> Figure:
        lines = tuple(line_of(name, found, seeds) for name in COMBINATIONS)
        holds, verdict = shape({line.name: line.over(range(size.points)) for line in lines})
        every = size.meta_steps // size.points
        return Figure(
            name="gradient-combinations",
            command=command,
            seeds=tuple(seeds),
            across="outer steps",
            up="accuracy on new classes, %",
            x=tuple(range(every, size.meta_steps + 1, every)),
            lines=lines,
            holds=holds,
            verdict=(
                f"{verdict} 5-way 5-shot on {classes.about}, transductive, {size.n_tasks} tasks a seed; inner rate "
                f"{size.rate:g}, {size.filters} filters, {size.meta_steps:,} outer steps of one task (the paper: 0.003 "
                f"for sums over {BATCH}, which is {0.003 * BATCH:g} for means; 64; 40,000)."
            ),
        )

    return Experiment(trials=trials, figure=figure, about=classes.notice)
