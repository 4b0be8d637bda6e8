"""How an initialization was made: the command, the data, the weights it began with, and what it went on from."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from fewshot_sdk.config.datasets import DATASETS
from fewshot_sdk.config.settings import Config, Listed
from fewshot_sdk.errors import ConfigError

MAX_CHAIN = 50  # initializations that went on from one another
_optional = Field(exclude_if=lambda found: found is None)  # absent from files written before the field existed


class Weights(Config):
    """Published weights that an initialization began with: where they are from, and whose they are.

    package: the package and its version; file: in the package; sha256: of that file; data: what they were trained on.
    """

    package: str
    file: str
    sha256: str
    data: str
    licence: str
    authors: str


class Provenance(Config):
    """How an initialization was made.

    command: makes it again; data_sha256: of its classes and pixels, or of its first waves; empty for data that cannot
    be opened. weights: the published weights that it began with, if any; start: the initialization that it went on
    from, if any. Without both it began with random weights.
    """

    command: str
    seed: int
    meta_steps_done: Annotated[int, Field(ge=0)]
    data_sha256: str
    seconds: Annotated[float, Field(ge=0)]
    versions: dict[str, str]
    weights: Annotated[Weights | None, _optional] = None
    start: Annotated[Origin | None, _optional] = None

    @model_validator(mode="after")
    def _chain_is_short(self) -> Self:
        if len(self.chain) > MAX_CHAIN:
            raise ConfigError(f"Provenance: start: expected at most {MAX_CHAIN} initializations one after the other")
        return self

    @property
    def chain(self) -> tuple[Origin, ...]:
        """The initializations that it came from, the latest first."""
        found, start = [], self.start
        while start is not None:
            found.append(start)
            start = start.provenance.start
        return tuple(found)

    @property
    def classes_before(self) -> frozenset[str]:
        """The names of the classes that an initialization that it came from was trained on, as far as recorded."""
        rows = (DATASETS.get(origin.data.partition(",")[0]) for origin in self.chain)
        named = [row.classes for row in rows if row is not None]
        return frozenset().union(*named, *(origin.classes for origin in self.chain))

    @property
    def for_research(self) -> bool:
        """Whether an initialization that it came from was trained on pictures that are for research only."""
        names = (origin.data.partition(",")[0] for origin in self.chain)
        return any(DATASETS[name].research for name in names if name in DATASETS)

    @property
    def published(self) -> Weights | None:
        """The published weights that it, or the first of its chain, began with."""
        return self.chain[-1].provenance.weights if self.start else self.weights


class Origin(Config):
    """The initialization that a classifier was adapted from: its name, hash and provenance.

    data: the data set and split that `provenance.data_sha256` is of; source: user/repo@commit if it came
    from the Hub; classes: those that it was trained on, if they are one's own.
    """

    name: str
    sha256: str
    provenance: Provenance
    data: str = ""
    source: str = ""
    classes: Annotated[Listed[str], Field(exclude_if=lambda names: not names)] = ()
