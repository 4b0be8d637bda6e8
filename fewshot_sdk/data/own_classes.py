"""One's own classes as a data set: divided into parts, recorded in a config, and found again later."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fewshot_sdk.config.datasets import DATASETS, PARTS, Part
from fewshot_sdk.config.recipe import DataSource, OwnClasses, Preprocessing
from fewshot_sdk.data.class_images import ClassImages
from fewshot_sdk.data.division import SPLIT, described, divided
from fewshot_sdk.data.own_pictures import OwnPictures, read_own
from fewshot_sdk.errors import DataError, listed
from fewshot_sdk.images.doctor import Finding
from fewshot_sdk.images.support import Watch
from fewshot_sdk.images.tables import PART_NAMES

Warn = Callable[[Finding], object]
GIVEN = "given"  # the split of classes that the source has in parts
KINDS: dict[Part, str] = {"train": "training", "val": "validation", "test": "test"}


def divide(
    pictures: OwnPictures, path: str | Path, *, split: str | None = None, seed: int | None = None, k_shot: int = 1,
    skip_small: bool = False, recorded: DataSource | None = None, warn: Warn = lambda finding: None,  # noqa: ARG005
) -> DataSource:  # fmt: skip
    """What a config records of one's own classes: the name of the source, and the classes of each part by name.

    split, seed: how to divide the classes if the source has no parts, see `division`; None: 0.7/0.15/0.15 and 0.
    k_shot: how many pictures training takes of a class; classes with fewer are refused by name, or left out and warned
    of with `skip_small`. recorded: an earlier division, which is kept if it is of these very pictures, or has no hash
    of them, and neither split nor seed is given. Raises DataError for that, if no class is for training, and for a
    split of given parts.
    """
    if recorded is not None and recorded.own is not None and split is None and seed is None:
        own = recorded.own
        everything = (*own.train, *own.val, *own.test)
        if _is_of(recorded, pictures):
            _large_enough(pictures, path, dict.fromkeys(own.train, k_shot), False, warn)
            return recorded.replace(own=own.replace(sha256=pictures.sha256(everything)))
        if pictures.hashes.keys() & set(everything):
            again = f"{path}: its classes or pictures are not those that the recipe records, so they are divided anew"
            warn(Finding(severity="warning", code="changed", message=again))
    given = any(pictures.parts.values())
    if given and set(pictures.parts.values()) == {"train"} and split is not None:
        given = False
    if given and (split is not None or seed is not None):
        raise DataError(f"{path}: its classes are in parts already; leave out --split and --split-seed")
    wanted = {
        name: max(k_shot, 2) if not given else k_shot if part == "train" else 2 for name, part in pictures.parts.items()
    }
    kept = _large_enough(pictures, path, wanted, skip_small, warn)
    if given:
        parts = {part: tuple(name for name in kept if pictures.parts[name] == part) for part in PARTS}
        label = GIVEN
    else:
        parts = divided(kept, split or SPLIT, seed or 0)
        label = described(split or SPLIT, seed or 0)
    if not parts["train"]:
        raise DataError(f"{path}: no class is for training; expected some in train/, beside val/ and test/")
    for finding in pictures.complaints.summary(_part_of(parts), pictures.listing):
        warn(finding)
    own = OwnClasses(train=parts["train"], val=parts["val"], test=parts["test"], sha256=pictures.sha256(kept))
    return DataSource(name=name_of(path), split=label, own=own)


def own_source(
    path: str | Path, settings: Preprocessing, *, split: str | None = None, seed: int | None = None, k_shot: int = 1,
    skip_small: bool = False, recorded: DataSource | None = None, warn: Warn = lambda finding: None,  # noqa: ARG005
    watch: Watch = lambda files, total: files,  # noqa: ARG005
) -> DataSource:  # fmt: skip
    """`divide` for the pictures of a folder, zip or CSV; raises as it and `read_own` do.

    In a recipe with this source, `open_dataset(recipe.data, recipe.preprocessing, part, root=path)` opens each part.
    """
    pictures = read_own(path, settings, watch)
    return divide(
        pictures, path, split=split, seed=seed, k_shot=k_shot, skip_small=skip_small, recorded=recorded, warn=warn
    )


def classes_of(pictures: OwnPictures, source: DataSource, settings: Preprocessing, part: Part) -> ClassImages:
    """The classes of one part as recorded. Raises DataError, saying what differs, if they are no longer the same."""
    own = source.own
    assert own is not None
    everything = (*own.train, *own.val, *own.test)
    if gone := sorted(set(everything) - pictures.hashes.keys()):
        raise DataError(f"{source.name}: it no longer holds the recorded classes {listed(gone)}; name the same data")
    found = pictures.sha256(everything)
    if own.sha256 and found != own.sha256:
        raise DataError(
            f"{source.name}: its pictures changed since its classes were recorded: expected sha256 "
            f"{own.sha256[:16]}..., found {found[:16]}...; name the same data, or start a new training"
        )
    names: Sequence[str] = getattr(own, part)
    if not names:
        raise DataError(f"{source.name} has no {KINDS[part]} classes; divide it by another --split")
    return _chosen(pictures, source.name, names, settings, source if part == "train" else None)


def new_classes(
    path: str | Path, settings: Preprocessing, part: Part, recorded: Iterable[DataSource] = (),
    trained_on: Mapping[str, Collection[str]] = MappingProxyType({}), *, least: int = 1,
    skip_small: bool = False, warn: Warn = lambda finding: None,  # noqa: ARG005
    watch: Watch = lambda files, total: files,  # noqa: ARG005
) -> ClassImages:  # fmt: skip
    """The classes of one part to measure initializations on.

    recorded: the data that they were trained on. If the source holds all classes that one of these names, the part is
    as recorded; otherwise the source's own part; without parts all classes are test classes.
    trained_on: the classes that each was trained on, by its name. least: classes with fewer pictures are refused by
    name, or left out and warned of with `skip_small`. Raises DataError for that, for a part without classes, and,
    naming them, for classes that one of the initializations was trained on, unless `part` is train.
    """
    pictures, name = read_own(path, settings, watch), name_of(path)
    parts = _recorded(pictures, part, recorded, name, warn)
    if parts is None:
        found = {each: of or "test" for each, of in pictures.parts.items()}
        parts = {other: tuple(n for n, of in found.items() if of == other) for other in PARTS}
    if not parts[part]:
        there = [other for other in PARTS if parts[other]]
        raise DataError(f"{path}: it has no {KINDS[part]} classes; --part takes {' or '.join(there)} here")
    wanted = dict.fromkeys(parts[part], least)
    names = _large_enough(pictures, path, wanted, skip_small, warn)
    check_new(names, part, trained_on)
    for finding in pictures.complaints.summary(_part_of(parts), pictures.listing):
        warn(finding)
    return _chosen(pictures, name, names, settings)


def check_new(names: Sequence[str], part: Part, trained_on: Mapping[str, Collection[str]]) -> None:
    """Raises DataError, naming them, if one of the initializations was trained on some of the classes by its record."""
    for name, classes in trained_on.items():
        if part != "train" and (known := sorted(set(names) & set(classes))):
            raise DataError(
                f"{name} was trained on {listed(known)}, and an accuracy on these would say nothing about new classes; "
                "name data without them, or --part train to measure on training classes"
            )


def name_of(path: str | Path) -> str:
    """What a config calls the source: its last part without suffix, in letters that serve anywhere."""
    resolved = Path(path).resolve()
    last = resolved.name if resolved.is_dir() else resolved.stem
    name = re.sub(r"[^\w.-]+", "-", last).strip("-.")[:90] or "classes"
    return f"own-{name}" if name in DATASETS or name in PART_NAMES else name


def _is_of(recorded: DataSource, pictures: OwnPictures) -> bool:
    """Whether a recorded division is of these classes, pictures and, where they have some, parts."""
    assert recorded.own is not None
    parts = {name: part for part in PARTS for name in getattr(recorded.own, part)}
    if not parts.keys() <= pictures.hashes.keys() or recorded.own.sha256 not in ("", pictures.sha256(parts)):
        return False
    return recorded.split != GIVEN or all(pictures.parts[name] in ("", part) for name, part in parts.items())


def _recorded(
    pictures: OwnPictures, part: Part, recorded: Iterable[DataSource], name: str, warn: Warn
) -> dict[Part, tuple[str, ...]] | None:
    for source in recorded:
        own = source.own
        if own is None or not getattr(own, part):
            continue
        everything = (*own.train, *own.val, *own.test)
        if not set(everything) <= pictures.hashes.keys():
            continue
        if own.sha256 and pictures.sha256(everything) != own.sha256:
            changed = f"the pictures of {name} are not the same as when the classes of {source.name} were recorded"
            warn(Finding(severity="warning", code="changed", message=changed))
        return {"train": own.train, "val": own.val, "test": own.test}
    return None


def _large_enough(
    pictures: OwnPictures, path: str | Path, wanted: Mapping[str, int], skip_small: bool, warn: Warn
) -> tuple[str, ...]:
    """The classes with as many pictures as wanted of each."""
    counts = pictures.counts()
    small = [f"{name} ({counts[name]} of {least})" for name, least in wanted.items() if counts[name] < least]
    if small:
        found = f"{path}: fewer pictures than a task needs in {listed(small)}"
        if not skip_small:
            raise DataError(f"{found}; add some, or leave these classes out with --skip-small")
        warn(Finding(severity="warning", code="few-shots", message=f"{found}; left out"))
    kept = tuple(name for name, least in wanted.items() if counts[name] >= least)
    if not kept:
        raise DataError(f"{path}: no class has enough pictures; expected {max(wanted.values())} in each")
    return kept


def _chosen(
    pictures: OwnPictures, name: str, names: Sequence[str], settings: Preprocessing, recorded: DataSource | None = None
) -> ClassImages:
    """These classes; for training, as `recorded`, turned if that says so."""
    index = {each: i for i, each in enumerate(pictures.classes.names)}
    return ClassImages(
        images=pictures.classes.images,
        rows=tuple(pictures.classes.rows[index[each]] for each in names),
        names=tuple(names),
        source=f"{name} {pictures.sha256(names)}, {settings.model_dump_json()}",
        rotations=4 if recorded is not None and recorded.rotations else 1,
        recorded=recorded,
    )


def _part_of(parts: Mapping[Part, Sequence[str]]) -> dict[str, str]:
    return {name: part for part, names in parts.items() for name in names}
