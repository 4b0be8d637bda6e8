"""`Figure`: what a repetition of one of the paper's figures or tables found, and its picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import computed_field, model_validator

from fewshot_sdk.config.recipe import Config, Listed
from fewshot_sdk.intervals import interval_of_few
from fewshot_sdk.storage import plots

Scale = Literal["small", "paper"]
SEEDS = (0, 1, 2)


def ahead(upper: Sequence[float], lower: Sequence[float]) -> tuple[float, float]:
    """`interval_of_few` of upper - lower, seed by seed: what one seed gives both (weights, tasks) falls out."""
    return interval_of_few([a - b for a, b in zip(upper, lower, strict=True)])


def points(found: tuple[float, float]) -> str:
    """A difference of percentages in words."""
    return f"{found[0]:.1f} ± {found[1]:.1f} points"


def judged(parts: Mapping[str, bool], on: str) -> tuple[bool, str]:
    """Whether all parts of a test hold, and the sentences that say so of each. on: what they are tested on."""
    holds = all(parts.values())
    said = "; ".join(f"{part}: {'yes' if there else 'NO'}" for part, there in parts.items())
    return holds, f"The paper's shape {'holds' if holds else 'does NOT hold'}. Test, {on}: {said}."


class Line(Config):
    """One line: for each seed its values at all points across, None where nothing was measured.

    mean, ci95: over the seeds, and the half-widths of its 95 % intervals; they follow from the values.
    theory: of the paper or of another measurement, drawn apart, one value for all seeds; halves: the half-widths of
    its intervals, where there are any.
    """

    name: str
    values: Listed[Listed[float | None]]
    theory: bool = False
    halves: Listed[float | None] = ()

    @model_validator(mode="before")
    @classmethod
    def _made_again(cls, found: object) -> object:
        return {k: v for k, v in found.items() if k not in ("mean", "ci95")} if isinstance(found, dict) else found

    @computed_field  # type: ignore[prop-decorator]
    @property
    def mean(self) -> tuple[float | None, ...]:
        """Of each point."""
        return tuple(self.at(i)[0] if self.has(i) else None for i in range(len(self.values[0])))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ci95(self) -> tuple[float | None, ...]:
        """Of each point."""
        return tuple(self.at(i)[1] if self.has(i) else None for i in range(len(self.values[0])))

    def has(self, point: int) -> bool:
        """Whether there is something to show at a point."""
        return all(values[point] is not None for values in self.values)

    def each(self, point: int) -> list[float]:
        """The value of each seed at a point that `has` one."""
        return [value for values in self.values if (value := values[point]) is not None]

    def at(self, point: int) -> tuple[float, float]:
        """The mean over the seeds, and the half-width of its 95 % interval."""
        mean, half = interval_of_few(self.each(point))
        given = self.halves[point] if self.halves else None
        return mean, half if given is None else given

    def over(self, points: Sequence[int]) -> list[float]:
        """For each seed the mean over some points."""
        return [statistics.fmean(row) for row in zip(*(self.each(point) for point in points), strict=True)]


class Panel(Config):
    """Lines over one axis. across: what it is; x: the points on it; cells: their names, if they are none to scale."""

    across: str
    x: Listed[float]
    lines: Listed[Line]
    cells: Listed[str] = ()

    def line(self, name: str) -> Line:
        """The line of that name."""
        return next(line for line in self.lines if line.name == name)

    def table(self) -> str:
        """Mean and interval of every line at every point, in Markdown."""
        heads = self.cells or tuple(f"{x:g}" for x in self.x)
        rows = [f"| {line.name} | {' | '.join(_shown(line, i) for i in range(len(self.x)))} |" for line in self.lines]
        return "\n".join([f"| {self.across} | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}", *rows])

    def drawn(self) -> plots.Panel:
        """What a plot shows of it: the points at which each line `has` something."""
        lines = [
            plots.Line(
                name=line.name,
                points=[(x, *line.at(i)) for i, x in enumerate(self.x) if line.has(i)],
                theory=line.theory,
            )
            for line in self.lines
        ]
        cells = dict(zip(self.cells, self.x, strict=True)) if self.cells else None
        return plots.Panel(across=self.across, lines=lines, cells=cells)


class Figure(Panel):
    """Lines over seeds, and whether the paper's shape is there.

    up: what the other axis is; beside: a second panel with the same; holds and verdict: whether the shape holds, by a
    stated test.
    """

    name: str
    command: str
    seeds: Listed[int] = SEEDS
    up: str
    beside: Panel | None = None
    holds: bool
    verdict: str

    @property
    def panels(self) -> list[Panel]:
        """From left to right."""
        return [self, self.beside] if self.beside else [self]

    def files(self) -> dict[str, bytes]:
        """data.json, figure.png and figure.svg, and README.md. Raises MissingExtra without matplotlib."""
        tables = "\n\n".join(panel.table() for panel in self.panels)
        drawn = [panel.drawn() for panel in self.panels]
        page = (
            f"# {self.name}\n{self.verdict}\n\n![{self.name}](figure.svg)\n\n"
            f"{self.up}, mean over the seeds {', '.join(map(str, self.seeds))} and its 95 % interval (Student's t):\n\n"
            f"{tables}\n\n    {self.command}\n"
        )
        return {
            "data.json": (self.model_dump_json(indent=1) + "\n").encode(),
            "figure.png": plots.intervals(drawn, self.up, "png"),
            "figure.svg": plots.intervals(drawn, self.up, "svg"),
            "README.md": page.encode(),
        }


def _shown(line: Line, point: int) -> str:
    if not line.has(point):
        return ""
    mean, half = line.at(point)
    return f"{mean:.4g} ± {half:.2g}" if half or not line.theory else f"{mean:.4g}"
