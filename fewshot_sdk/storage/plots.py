"""Plots: panels of lines with intervals, accuracy during training, and curves through points."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.records import Comparison, Metric
from fewshot_sdk.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["png", "svg"]
Floats = NDArray[np.float32]
FEW = 6  # lines for which a legend fits inside the panel


@dataclass(frozen=True, kw_only=True)
class Line:
    """A named line of points (x, value, half-width of its interval). theory: not measured here, drawn differently."""

    name: str
    points: Sequence[tuple[float, float, float]]
    theory: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines over one x axis. across: its label; cells: name -> position, if the axis is a list of names."""

    across: str
    lines: Sequence[Line]
    cells: Mapping[str, float] | None = None


def check_can_draw() -> None:
    """Raises MissingExtra without matplotlib; to be called before hours of work, not after."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtra("plots need matplotlib; pip install 'fewshot-sdk[figures]'") from None


def intervals(panels: Sequence[Panel], up: str, kind: Kind) -> bytes:
    """A picture of panels with a common y axis: lines with their intervals as bands, or as error bars over cells.

    up: the label of the y axis. Raises MissingExtra if matplotlib is not installed.
    """
    crowded = len(panels) > 1 or len(panels[0].lines) > FEW
    figure = _figure(4.4 * len(panels) + 2 * (1 + crowded) - 2 * (len(panels) > 1), 4)
    all_axes = _side_by_side(figure, panels, up)
    for axes, panel in zip(all_axes, panels, strict=True):
        if panel.cells:
            _bars(axes, panel.lines, panel.cells)
        else:
            _bands(axes, panel.lines, alpha=0.15 if len(panel.lines) <= FEW else 0.06, width=1)
    if crowded:
        figure.legend(*all_axes[0].get_legend_handles_labels(), fontsize="small", loc="outside right upper")
    else:
        all_axes[0].legend(fontsize="small")
    return _saved(figure, kind)


def curve(trainings: Mapping[str, Sequence[Metric]], kind: Kind = "png") -> bytes:
    """A picture: accuracy with its 95 % interval against outer steps and against minutes, a line per training.

    Raises MissingExtra if matplotlib is not installed.
    """
    steps = {name: [(m.meta_steps, m.accuracy, m.ci95) for m in metrics] for name, metrics in trainings.items()}
    minutes = {name: [(m.seconds / 60, m.accuracy, m.ci95) for m in metrics] for name, metrics in trainings.items()}
    panels = [_panel("outer steps of meta-training", steps), _panel("minutes of meta-training", minutes)]
    return _accuracies(panels, "accuracy on new classes, %\n(1-shot, transductive)", kind)


def compared(found: Sequence[Comparison], kind: Kind = "png") -> bytes:
    """A picture: accuracy with its 95 % interval against inner steps, a panel per number of shots, and against shots.

    Raises MissingExtra if matplotlib is not installed.
    """
    panels = [
        _panel(
            f"inner steps, {c.shots}-shot",
            {r.name: [(p.steps, p.accuracy, p.ci95) for p in r.points] for r in c.rivals},
        )
        for c in found
    ]
    if len(found) > 1:
        by_shots: dict[str, list[tuple[float, float, float]]] = {}
        for c in sorted(found, key=lambda c: c.shots):
            for rival in c.rivals:
                by_shots.setdefault(rival.name, []).append((c.shots, rival.accuracy, rival.ci95))
        panels.append(_panel("shots", by_shots))
    return _accuracies(panels, f"accuracy, %\n({found[0].ways}-way, {found[0].mode})", kind)


def across(points: Floats) -> Floats:
    """The inputs at which to draw a curve through points (n, 2): float32 (200, 1), a tenth beyond them at each end."""
    low, high = float(points[:, 0].min()), float(points[:, 0].max())
    margin = 0.1 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, 200, dtype=np.float32)[:, None]


def picture(points: Floats, curves: Mapping[str, Floats], names: tuple[str, str]) -> bytes:
    """A PNG of points (n, 2) and curves: name -> outputs at the inputs that `across` returns. names: of the two axes.

    Raises MissingExtra if matplotlib is not installed.
    """
    figure = _figure(6.4, 4)
    axes = figure.subplots()
    for (name, outputs), style in zip(curves.items(), ("--", "-"), strict=True):
        axes.plot(across(points)[:, 0], outputs, style, label=name, linewidth=1)
    axes.plot(points[:, 0], points[:, 1], "k.", label=f"the {len(points)} points")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return _saved(figure, "png")


def _panel(label: str, lines: Mapping[str, Sequence[tuple[float, float, float]]]) -> Panel:
    return Panel(across=label, lines=[Line(name=name, points=points) for name, points in lines.items()])


def _accuracies(panels: Sequence[Panel], up: str, kind: Kind) -> bytes:
    """Panels of accuracies, given as fractions, drawn in percent."""
    figure = _figure(4.5 * len(panels), 3.6)
    all_axes = _side_by_side(figure, panels, up)
    for axes, panel in zip(all_axes, panels, strict=True):
        _bands(axes, panel.lines, alpha=0.2, times=100)
        axes.set_xlim(left=0)
    all_axes[0].legend(loc="lower right")
    return _saved(figure, kind)


def _figure(width: float, height: float) -> Figure:
    check_can_draw()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _side_by_side(figure: Figure, panels: Sequence[Panel], up: str) -> list[Axes]:
    all_axes: list[Axes] = list(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0])
    for axes, panel in zip(all_axes, panels, strict=True):
        axes.set_xlabel(panel.across)
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel(up)
    return all_axes


def _bands(axes: Axes, lines: Sequence[Line], alpha: float, width: float | None = None, times: float = 1) -> None:
    for line in lines:
        x, values = ([point[i] for point in line.points] for i in (0, 1))
        style = "k--" if line.theory else ".-"
        (drawn,) = axes.plot(x, [times * value for value in values], style, label=line.name, linewidth=width)
        low, high = ([times * (value + sign * half) for _, value, half in line.points] for sign in (-1, 1))
        axes.fill_between(x, low, high, alpha=alpha, color=drawn.get_color(), linewidth=0)


def _bars(axes: Axes, lines: Sequence[Line], cells: Mapping[str, float]) -> None:
    """Each cell's lines next to each other; a line's `theory` follows it in the same colour, with hollow markers."""
    apart, colour, others = 0.8 / len(lines), -1, 0
    for place, line in enumerate(lines):
        colour += not line.theory
        others = others + 1 if line.theory else 0
        if not line.points:
            continue
        x, values, halves = zip(*line.points, strict=True)
        axes.errorbar(
            [at - 0.4 + apart * (place + 0.5) for at in x],
            values,
            halves,
            fmt="oDs^"[others % 4],
            color=f"C{colour}",
            markerfacecolor="white" if line.theory else None,
            markersize=4,
            capsize=2,
            label=line.name,
        )
    axes.set_xticks(list(cells.values()), list(cells))


def _saved(figure: Figure, kind: Kind) -> bytes:
    """The figure as a file, with the same bytes each time."""
    import matplotlib

    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fewshot-sdk"}):
        figure.savefig(data, format=kind, dpi=100, metadata={"Software": None} if kind == "png" else {"Date": None})
    return data.getvalue()
