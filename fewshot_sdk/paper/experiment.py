"""What a figure is measured from: trials, and how each trains and is judged."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Config, DataSource, Listed, Recipe
from fewshot_sdk.config.records import Mode
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.datasets import data_source, held_out, open_dataset
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.errors import DataError
from fewshot_sdk.meta.evaluation import accuracies
from fewshot_sdk.meta.training import meta_train
from fewshot_sdk.paper.figures import Figure, Line, Scale

Numbers = Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is measured, by name: each alone, on one core, from its seed; so in any order, by any process, once.

    figure: of the numbers that all of them gave, by the same names. about: a sentence for the person who watches.
    """

    trials: Mapping[str, Callable[[], Numbers]]
    figure: Callable[[Mapping[str, Numbers]], Figure]
    about: str


def line_of(name: str, found: Mapping[str, Numbers], seeds: Sequence[int]) -> Line:
    """The line whose values at all points are what the trial `NAME, seed N` of each seed gave."""
    return Line(name=name, values=tuple(tuple(found[f"{name}, seed {seed}"]) for seed in seeds))


class Begun(Config):
    """What is being measured, and what its bits depend on besides: name -> version."""

    command: str
    versions: dict[str, str]


class Measured(Config):
    """What a trial gave, and how many seconds of processor time it took."""

    trial: str
    numbers: Listed[float]
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """Those to train on, those to test on, what the latter are, and if need be why no others."""

    train: ClassImages
    new: ClassImages
    about: str
    why: str = ""

    @property
    def said(self) -> str:
        """A sentence for the person who watches."""
        return f"testing on {self.about}" + (f": {self.why}" if self.why else "")


def open_classes(recipe: Recipe, scale: Scale) -> Classes:
    """A recipe's data; at small scale the glyphs take the place of data that are not there.

    Of mini-ImageNet, whose test classes not everybody has, the validation classes take theirs.
    Raises DataError at paper scale.
    """
    try:
        return _opened(recipe, recipe.data)
    except DataError as error:
        if scale == "paper":
            raise
        glyphs = _opened(recipe, data_source("glyphs"))
        about = f"made-up glyphs, for want of {recipe.data.name}"
        return Classes(train=glyphs.train, new=glyphs.new, about=about, why=str(error))


def _opened(recipe: Recipe, source: DataSource) -> Classes:
    train = open_dataset(source, recipe.preprocessing, "train")
    try:
        new, part = open_dataset(source, recipe.preprocessing, "test"), "test"
    except DataError:
        if held_out(source) == "test":
            raise
        new, part = open_dataset(source, recipe.preprocessing, "val"), "validation"
    return Classes(train=train, new=new, about=f"{source.name}'s {part} classes")


def trained(recipe: Recipe, tasks: TaskSampler, every: int = 0) -> Iterator[Initialization]:
    """The initialization after each `every` outer steps; 0: the last one alone."""
    for step in meta_train(recipe, tasks, command="fewshot reproduce"):
        if step.done % (every or step.meta_steps) == 0:
            yield step.initialization


def accuracy(
    init: Initialization, data: ClassImages, modes: Sequence[Mode], *, shots: int, n_query: int, n_tasks: int, seed: int
) -> dict[Mode, float]:
    """Percent of queries classified right, by each mode, over tasks that the seed alone chooses."""
    tasks = TaskSampler(data=data, n_way=init.recipe.meta.n_way, k_shot=shots, n_query=n_query, seed=seed)
    found = list(accuracies(init, tasks, n_tasks=n_tasks, modes=modes))
    return {mode: 100 * statistics.fmean(one[mode] for one in found) for mode in modes}
