"""`Figure`: what a repetition of one of the paper's figures found, and its picture."""

from __future__ import annotations

import io
import statistics
from importlib.util import find_spec
from typing import Literal

from fewshot_sdk.config import Config, Listed
from fewshot_sdk.errors import MissingExtra

Scale = Literal["small", "paper"]
SEEDS = (0, 1, 2)
T95 = 4.303  # Student's t for the 95 % interval of a mean of three


class Line(Config):
    """One line: for each seed its values at all points across. theory: drawn dashed, one value for all seeds."""

    name: str
    values: Listed[Listed[float]]
    theory: bool = False

    def at(self, point: int) -> tuple[float, float]:
        """The mean over the seeds, and the half-width of its 95 % interval."""
        each = [values[point] for values in self.values]
        return statistics.fmean(each), T95 * statistics.stdev(each) / len(each) ** 0.5 if len(each) > 1 else 0.0


class Figure(Config):
    """Lines over seeds, and whether the paper's shape is there.

    across, up: what the axes are; x: the points across; holds and verdict: whether the shape holds, by a stated test.
    """

    name: str
    command: str
    seeds: Listed[int] = SEEDS
    across: str
    up: str
    x: Listed[float]
    lines: Listed[Line]
    holds: bool
    verdict: str

    def line(self, name: str) -> Line:
        """The line of that name."""
        return next(line for line in self.lines if line.name == name)

    def files(self) -> dict[str, bytes]:
        """data.json, figure.png and figure.svg, and README.md. Raises MissingExtra without matplotlib."""
        rows = [
            f"| {line.name} | {' | '.join(_shown(*line.at(i), line.theory) for i in range(len(self.x)))} |"
            for line in self.lines
        ]
        head = f"| {self.across} | {' | '.join(f'{x:g}' for x in self.x)} |\n|---|{'---|' * len(self.x)}"
        page = (
            f"# {self.name}\n{self.verdict}\n\n![{self.name}](figure.svg)\n\n"
            f"{self.up}, mean over the seeds {', '.join(map(str, self.seeds))} and its 95 % interval (Student's t):\n\n"
            f"{head}\n" + "\n".join(rows) + f"\n\n    {self.command}\n"
        )
        return {
            "data.json": (self.model_dump_json(indent=1) + "\n").encode(),
            "figure.png": drawn(self, "png"),
            "figure.svg": drawn(self, "svg"),
            "README.md": page.encode(),
        }


def _shown(mean: float, half: float, theory: bool) -> str:
    return f"{mean:.4g}" if theory else f"{mean:.4g} ± {half:.2g}"


def check_can_draw() -> None:
    """Raises MissingExtra without matplotlib: said before hours of training, not after."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("plots need matplotlib; pip install 'fewshot-sdk[figures]'")


def drawn(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The picture: each line's mean, and its interval as a band. Raises MissingExtra."""
    check_can_draw()
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(6.4, 4), layout="constrained")
    axes = canvas.subplots()
    for line in figure.lines:
        found = [line.at(i) for i in range(len(figure.x))]
        style = "k--" if line.theory else ".-"
        (shown,) = axes.plot(figure.x, [mean for mean, _ in found], style, label=line.name, linewidth=1)
        low, high = ([mean + sign * half for mean, half in found] for sign in (-1, 1))
        axes.fill_between(figure.x, low, high, alpha=0.15, color=shown.get_color(), linewidth=0)
    axes.set_xlabel(figure.across)
    axes.set_ylabel(figure.up)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fewshot-sdk"}):  # the same bytes each time
        canvas.savefig(data, format=kind, dpi=100, metadata={"Software": None} if kind == "png" else {"Date": None})
    return data.getvalue()
