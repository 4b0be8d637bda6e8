"""A light environment beside the developer's: links to the packages that fewshot-sdk requires, and to no others."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.conftest import REPOSITORY


def requirements(*extras: str) -> list[Requirement]:
    """What pyproject.toml requires, with these extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in wanted]


def closure(wanted: Iterable[Requirement]) -> dict[str, Distribution]:
    """The installed distributions that these requirements lead to, by name."""
    found: dict[str, Distribution] = {}
    todo = [(one, "") for one in wanted]
    while todo:
        one, extra = todo.pop()
        if one.marker is not None and not one.marker.evaluate({"extra": extra}):
            continue
        known = one.name in found
        found[one.name] = made = distribution(one.name)
        lines = [] if known and not one.extras else made.requires or []
        todo += [(Requirement(line), named) for line in lines for named in ("", *one.extras)]
    return found


def light_site(folder: Path, *extras: str) -> Path:
    """A folder for sys.path with what `pip install fewshot-sdk[EXTRAS]` would bring, as links."""
    folder.mkdir()
    for made in closure(requirements(*extras)).values():
        for name in _top_level(made):
            if not (folder / name).exists():
                (folder / name).symlink_to(Path(str(made.locate_file(name))))
    return folder


def _top_level(made: Distribution) -> Iterator[str]:
    yield from sorted({file.parts[0] for file in made.files or () if file.parts[0] not in ("..", "__pycache__")})
