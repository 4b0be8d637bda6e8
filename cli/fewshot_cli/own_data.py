"""The data that --data names, to train or to measure on: a data set of the table, or one's own classes at a path."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.output import say
from fewshot_cli.watching import warn, watched
from fewshot_sdk.errors import ConfigError, listed

if TYPE_CHECKING:
    from fewshot_sdk.artifacts.initialization import Initialization
    from fewshot_sdk.config.datasets import Part
    from fewshot_sdk.config.recipe import Recipe
    from fewshot_sdk.data.class_images import ClassImages
    from fewshot_sdk.data.own_classes import Warn
    from fewshot_sdk.images.support import Watch


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What --data, --part, --root and --skip-small ask for. least: pictures that a task takes of each class."""

    data: str | None
    part: Part
    root: Path | None
    skip_small: bool
    least: int


def last_part(data: str) -> str:
    """What names the data in a recorded command, without the path; with ./ where it could be a data set's name."""
    from fewshot_sdk.config.datasets import DATASETS

    if data in DATASETS:
        return data
    name = Path(data).resolve().name
    return f"./{name}" if name in DATASETS else name


def on_data(recipe: Recipe, data: str | None, changes: Sequence[str]) -> Recipe:
    """The recipe on the data set of the table that --data names, as it is if it is on that already.

    changes: those of --set, which may change what is said of such a data set, but not which classes a path has.
    """
    from fewshot_sdk.config.recipe import DataSource
    from fewshot_sdk.data.opening import named

    source = recipe.data if data is None else named(data)
    if isinstance(source, DataSource):
        same = source.name == recipe.data.name and recipe.data.own is None
        return recipe if same else recipe.replace(data=source)
    names = [change.partition("=")[0].strip() for change in changes]
    if fixed := [name for name in names if name.split(".")[0] == "data" and name != "data.rotations"]:
        raise ConfigError(
            f"--set {fixed[0]}: --data PATH tells which classes there are; leave one of them out, or write the classes "
            "of each part into a recipe file"
        )
    return recipe


def with_data(
    recipe: Recipe, data: str | None, root: Path | None, *, split: str | None, split_seed: int | None,
    skip_small: bool, rotations: bool, aloud: bool,
) -> tuple[Recipe, Path | None]:  # fmt: skip
    """A recipe after `on_data`, and the folder or file that holds the data; one's own classes are read now.

    rotations: whether those of the recipe are meant for one's own classes, too. aloud: show more than warnings.
    """
    from fewshot_sdk.data.opening import named
    from fewshot_sdk.data.own_classes import own_source

    source = recipe.data if data is None else named(data)
    if not isinstance(source, Path):
        if split is not None or split_seed is not None or skip_small:
            raise ConfigError(
                "--split, --split-seed and --skip-small are for your own classes: name these by --data PATH"
            )
        return recipe, root
    _check_no_root(root)
    found = own_source(
        source,
        recipe.preprocessing,
        split=split,
        seed=split_seed,
        k_shot=recipe.meta.k_shot,
        skip_small=skip_small,
        recorded=recipe.data,
        warn=warn,
        watch=watched if aloud else lambda files, total: files,  # noqa: ARG005
    )
    found = found.replace(rotations=rotations and recipe.data.rotations)
    if found.own is not None and aloud:
        numbers = {"train": len(found.own.train), "validate": len(found.own.val), "test": len(found.own.test)}
        say(f"{found}: " + ", ".join(f"{n} class{'es' * (n > 1)} to {purpose}" for purpose, n in numbers.items() if n))
    return recipe.replace(data=found), source


def warn_of_seen(names: Collection[str], init: str, seen: Collection[str]) -> None:
    """Warn if classes to measure on have the names of classes that an initialization was trained on elsewhere."""
    if known := sorted(set(names) & set(seen)):
        say(
            f"warning: {init} was trained on classes named {listed(known)}; if yours are the same kinds of things, an "
            "accuracy on these says little about new classes"
        )


def warn_of_few(recipe: Recipe) -> None:
    """Say what follows from too few held-out classes for a learning curve."""
    own = recipe.data.own
    there = 0 if own is None else len(own.val or own.test)
    few = f"{there} held-out class{'es are' if there != 1 else ' is'} too few"
    if recipe.head == "dense":
        few += f"; the dense head needs {recipe.meta.n_way}, while --set head=zero serves any number"
    say(f"warning: no accuracy is measured during training: {few}; another --split holds out more")


def classes_to_measure(
    wanted: Wanted, inits: Mapping[str, Initialization], *, aloud: bool = True
) -> dict[str, ClassImages]:
    """The same classes, preprocessed for each initialization; none that one of them was trained on, as far as recorded.

    aloud: show progress and warnings.
    """
    from fewshot_sdk.data.opening import named, open_dataset
    from fewshot_sdk.data.own_classes import check_new, new_classes

    recorded = {name: init.recipe.data for name, init in inits.items()}
    trained_on = {name: init.own_classes for name, init in inits.items()}
    first = next(iter(recorded.values()))
    same = wanted.data is None or (wanted.data == first.name and first.own is None)
    source = first if same else named(str(wanted.data))
    found: dict[str, ClassImages] = {}
    for name, init in inits.items():
        settings = init.recipe.preprocessing
        if isinstance(source, Path):
            _check_no_root(wanted.root)
            tell: Warn = warn if aloud and not found else lambda finding: None  # noqa: ARG005
            watch: Watch = watched if aloud else lambda files, total: files  # noqa: ARG005
            found[name] = new_classes(
                source,
                settings,
                wanted.part,
                recorded.values(),
                trained_on,
                least=wanted.least,
                skip_small=wanted.skip_small,
                warn=tell,
                watch=watch,
            )
        else:
            if wanted.skip_small:
                raise ConfigError("--skip-small is for your own classes: name them with --data PATH")
            found[name] = open_dataset(source, settings, wanted.part, wanted.root)
            check_new(found[name].names, wanted.part, trained_on)
        if aloud and wanted.part != "train":
            warn_of_seen(found[name].names, name, init.named_classes - init.own_classes)
    return found


def _check_no_root(root: Path | None) -> None:
    if root is not None:
        raise ConfigError("--root is for the data sets known by name: leave it out, since --data says where yours are")
