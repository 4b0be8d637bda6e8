"""The paper's two tables of accuracies measured again, its numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fewshot_sdk.algorithms import Algorithm
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.artifacts.opening import load
from fewshot_sdk.config.presets import preset, with_algorithm
from fewshot_sdk.config.recipe import Conv4, Recipe
from fewshot_sdk.config.records import Mode
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.paper.cells import PRESETS, ROWS, SHOTS, Cell, Name, paper_lines, shape
from fewshot_sdk.paper.experiment import Classes, Experiment, Numbers, accuracy, open_classes, trained
from fewshot_sdk.paper.figures import SEEDS, Figure, Line, Scale
from fewshot_sdk.storage.repositories import bundled

FILTERS, PAPER_TASKS = 16, 10_000


@dataclass(frozen=True, kw_only=True)
class Short:
    """The settings that replace a preset's at small scale.

    maml_steps: outer steps of MAML, which costs most; 0 leaves it out. side: of the pictures, in pixels. rate: the
    inner learning rate of Reptile and first-order MAML, the preset's or higher, to learn something in so few steps.
    """

    meta_steps: int
    maml_steps: int
    n_tasks: int
    side: int
    rate: float


# Chosen on the last 200 of the 1,200 training characters, and on the last 16 of the 64 training classes of photographs.
SHORT = {
    "omniglot-5way": Short(meta_steps=1000, maml_steps=60, n_tasks=400, side=28, rate=3e-3),
    "omniglot-20way": Short(meta_steps=800, maml_steps=0, n_tasks=100, side=28, rate=3e-3),
    "mini-imagenet-5way": Short(meta_steps=1000, maml_steps=0, n_tasks=500, side=28, rate=1e-3),
}


def recipe_of(name: str, algorithm: Algorithm, scale: Scale) -> Recipe | None:
    """A preset with an algorithm; at small scale with fewer filters and `Short`'s settings, or None if left out."""
    recipe = preset(name)
    if scale == "small":
        short = SHORT[name]
        steps = short.maml_steps if algorithm == "maml" else short.meta_steps
        if not steps:
            return None
        assert isinstance(recipe.backbone, Conv4)
        recipe = recipe.replace(
            backbone=recipe.backbone.replace(filters=FILTERS),
            preprocessing=recipe.preprocessing.replace(height=short.side, width=short.side),
            inner=recipe.inner.replace(learning_rate=short.rate),
            adaptation=recipe.adaptation.replace(learning_rate=short.rate),
            meta=recipe.meta.replace(meta_steps=steps),
        )
    return with_algorithm(recipe, algorithm)


def recorded(name: str) -> Initialization | None:
    """The bundled initialization of that preset, if there is one and Reptile trained it."""
    if name not in bundled():
        return None
    init = load(name)
    return init if init.recipe.preset == name and init.recipe.meta.algorithm == "reptile" else None


def records(init: Initialization, mode: Mode) -> dict[int, tuple[float, float]]:
    """Recorded accuracies on its data set's test classes, and their 95 % intervals, in percent, by shots."""
    own = (init.recipe.data.name, "test", init.recipe.meta.n_way, mode, None)
    return {
        e.shots: (100 * e.accuracy, 100 * e.ci95)
        for e in init.evaluations
        if (e.data, e.part, e.ways, e.mode, e.baseline) == own
    }


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training run of the table. kept: the bundled initialization that it would only repeat, if there is one."""

    recipe: Recipe
    seed: int
    kept: Initialization | None

    @property
    def name(self) -> str:
        """The name of its trial."""
        return f"{self.recipe.preset} by {self.recipe.meta.algorithm}, seed {self.seed}"

    @property
    def rows(self) -> dict[Mode, str]:
        """The table's rows that it fills, by mode."""
        return {mode: row for row, (algorithm, mode) in ROWS.items() if algorithm == self.recipe.meta.algorithm}

    def recorded(self) -> Numbers:
        """The bundled initialization's records, as `_measured` returns them."""
        assert self.kept
        return [records(self.kept, mode)[shots][0] for mode in self.rows for shots in SHOTS]


def table(name: Name, scale: Scale, command: str, seeds: Sequence[int] = SEEDS) -> Experiment:
    """One of the two tables: a line for each row, a point for each cell."""
    trainings = list(_trainings(name, scale, seeds))
    classes = {}
    for recipe_name in PRESETS[name]:
        recipe = recipe_of(recipe_name, "reptile", scale)
        assert recipe is not None
        classes[recipe_name] = open_classes(recipe, scale)
    trials = {
        run.name: partial(_measured, run.recipe, classes[run.recipe.preset], list(run.rows), run.seed, scale)
        for run in trainings
        if run.kept is None
    }

    def figure(found: Mapping[str, Numbers]) -> Figure:
        return _figure(name, scale, command, seeds, trainings, found, [each.about for each in classes.values()])

    return Experiment(trials=trials, figure=figure, about="; ".join(dict.fromkeys(c.notice for c in classes.values())))


def _trainings(name: Name, scale: Scale, seeds: Sequence[int]) -> Iterator[Training]:
    for recipe_name in PRESETS[name]:
        kept = recorded(recipe_name)
        for algorithm in dict.fromkeys(algorithm for algorithm, _ in ROWS.values()):
            recipe = recipe_of(recipe_name, algorithm, scale)
            if recipe is None:
                continue
            for seed in seeds:
                run = Training(recipe=recipe, seed=seed, kept=kept)
                yield run if kept and _is_result_of(kept, recipe, seed, list(run.rows)) else replace(run, kept=None)


def _figure(
    name: Name, scale: Scale, command: str, seeds: Sequence[int], trainings: list[Training],
    found: Mapping[str, Numbers], abouts: list[str],
) -> Figure:  # fmt: skip
    cells: list[Cell] = [(recipe, shots) for recipe in PRESETS[name] for shots in SHOTS]
    values: dict[tuple[str, int, Cell], float] = {}  # by row, seed and cell
    for run in trainings:
        numbers = run.recorded() if run.kept else found[run.name]
        places = [(row, run.seed, (run.recipe.preset, shots)) for row in run.rows.values() for shots in SHOTS]
        values |= dict(zip(places, numbers, strict=True))
    ours = {
        row: Line(name=row, values=tuple(tuple(values.get((row, seed, cell)) for cell in cells) for seed in seeds))
        for row in ROWS
    }
    paper = paper_lines(name)
    lines = [line for row in ROWS for line in (ours[row], paper[row], *_bundled(row, cells))]
    holds, verdict = shape(ours, cells, paper if scale == "paper" else None)
    notes = [
        f"{run.recipe.preset}, seed {run.seed}: taken from the bundled initialization's records, not trained again."
        for run in trainings
        if run.kept
    ]
    return Figure(
        name=name,
        command=command,
        seeds=tuple(seeds),
        across="classes and shots",
        up="accuracy on new classes, %",
        x=tuple(range(len(cells))),
        cells=tuple(f"{preset(recipe).meta.n_way}-way {shots}-shot" for recipe, shots in cells),
        lines=tuple(lines),
        holds=holds,
        verdict=" ".join(
            [verdict, f"Tested on {' and '.join(dict.fromkeys(abouts))}.", *_lengths(name, scale), *notes]
        ),
    )


def _measured(recipe: Recipe, classes: Classes, modes: list[Mode], seed: int, scale: Scale) -> Numbers:
    """Train once; returns the accuracy in percent for each mode and, within it, for each of SHOTS."""
    n_tasks = SHORT[recipe.preset].n_tasks if scale == "small" else PAPER_TASKS
    sampler = TaskSampler(data=classes.train, n_way=recipe.meta.n_way, k_shot=recipe.meta.k_shot, seed=seed)
    (init,) = trained(recipe, sampler)
    by_shots = [
        accuracy(init, classes.new, modes, shots=shots, n_query=1, n_tasks=n_tasks, seed=1000 + seed) for shots in SHOTS
    ]
    return [accuracies[mode] for mode in modes for accuracies in by_shots]


def _is_result_of(kept: Initialization, recipe: Recipe, seed: int, modes: list[Mode]) -> bool:
    """Whether a bundled initialization is the result of this training run, and has the records the table needs."""
    made = kept.provenance
    same = (kept.recipe, made.seed, made.meta_steps_done) == (recipe, seed, recipe.meta.meta_steps)
    return same and all(set(SHOTS) <= records(kept, mode).keys() for mode in modes)


def _bundled(row: str, cells: list[Cell]) -> list[Line]:
    """The recorded accuracies of the bundled initializations, to show beside a row of Reptile's."""
    algorithm, mode = ROWS[row]
    if algorithm != "reptile":
        return []
    means: list[float | None] = []
    halves: list[float | None] = []
    for name, shots in cells:
        kept = recorded(name)
        mean, half = records(kept, mode).get(shots, (None, None)) if kept else (None, None)
        means.append(mean)
        halves.append(half)
    if all(mean is None for mean in means):
        return []
    return [Line(name=f"{row}, bundled", values=(tuple(means),), theory=True, halves=tuple(halves))]


def _lengths(name: Name, scale: Scale) -> Iterator[str]:
    """Sentences about how long each training was and what the bundled initializations are."""
    if scale == "small":
        yield "Training this short stays far from the paper's accuracies; only their order is tested."
    for preset_name in PRESETS[name]:
        kept = recorded(preset_name)
        if scale == "small":
            short = SHORT[preset_name]
            maml = f" ({short.maml_steps} by MAML)" if short.maml_steps else " (MAML is left out)"
            full = preset(preset_name)
            rate = f"inner rate {short.rate:g}"
            if short.rate != full.inner.learning_rate:
                rate += f" (the paper: {full.inner.learning_rate:g}; MAML keeps its own)"
            yield (
                f"{preset_name}: {short.meta_steps:,} outer steps{maml}; the paper has {full.meta.meta_steps:,}. "
                f"{FILTERS} filters, {short.side} pixels a side, {rate}, {short.n_tasks} tasks a seed."
            )
        if kept and any(records(kept, mode) for by, mode in ROWS.values() if by == "reptile"):
            yield (
                f"Bundled: models/{preset_name}, trained for {kept.provenance.meta_steps_done:,} outer steps from seed "
                f"{kept.provenance.seed}, with its recorded results (their intervals are over tasks)."
            )
