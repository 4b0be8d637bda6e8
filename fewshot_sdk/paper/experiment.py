"""What a figure is made from: trials, and how each of them trains and is evaluated."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.config.recipe import Config, DataSource, Listed, Recipe
from fewshot_sdk.config.records import Mode
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.opening import data_source, held_out, open_dataset
from fewshot_sdk.data.tasks import TaskSampler
from fewshot_sdk.errors import DataError
from fewshot_sdk.meta.evaluation import accuracies
from fewshot_sdk.meta.training import meta_train
from fewshot_sdk.paper.figures import Figure, Line, Scale

Numbers = Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Trials by name: each runs on one core and depends on its seed alone, so in any order and in any process.

    figure: makes the figure from the numbers of all trials, by the same names. about: a sentence for whoever watches.
    """

    trials: Mapping[str, Callable[[], Numbers]]
    figure: Callable[[Mapping[str, Numbers]], Figure]
    about: str


def line_of(name: str, found: Mapping[str, Numbers], seeds: Sequence[int]) -> Line:
    """The line that shows, for each seed, the numbers of the trial `NAME, seed N`."""
    return Line(name=name, values=tuple(tuple(found[f"{name}, seed {seed}"]) for seed in seeds))


class Begun(Config):
    """What is being measured, and the software versions its exact bits depend on: name -> version."""

    command: str
    versions: dict[str, str]


class Measured(Config):
    """A trial's numbers, and the seconds of processor time it took."""

    trial: str
    numbers: Listed[float]
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """Classes to train on and to test on. about: what the latter are; why: why they stand in for others, if they do."""

    train: ClassImages
    new: ClassImages
    about: str
    why: str = ""

    @property
    def notice(self) -> str:
        """A sentence for whoever watches."""
        return f"testing on {self.about}" + (f": {self.why}" if self.why else "")


def open_classes(recipe: Recipe, scale: Scale) -> Classes:
    """The classes of a recipe's data set; at small scale, glyphs stand in for data that are missing.

    For mini-ImageNet, whose test classes not everybody has, the validation classes stand in for them.
    Raises DataError at paper scale if the data are missing.
    """
    try:
        return _opened(recipe, recipe.data)
    except DataError as error:
        if scale == "paper":
            raise
        glyphs = _opened(recipe, data_source("glyphs"))
        about = f"made-up glyphs instead of {recipe.data.name}"
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
    """The initialization after every `every` outer steps; 0: only the last one."""
    for step in meta_train(recipe, tasks, command="fewshot reproduce"):
        if step.done % (every or step.meta_steps) == 0:
            yield step.initialization


def accuracy(
    init: Initialization, data: ClassImages, modes: Sequence[Mode], *, shots: int, n_query: int, n_tasks: int, seed: int
) -> dict[Mode, float]:
    """Accuracy in percent by mode, over tasks that depend on the seed alone."""
    tasks = TaskSampler(data=data, n_way=init.recipe.meta.n_way, k_shot=shots, n_query=n_query, seed=seed)
    found = list(accuracies(init, tasks, n_tasks=n_tasks, modes=modes))
    return {mode: 100 * statistics.fmean(task[mode] for task in found) for mode in modes}
