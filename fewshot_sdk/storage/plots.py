"""Plots: how accuracy went, and curves through points."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.config.records import Comparison, Metric
from fewshot_sdk.errors import MissingExtra

Line = Sequence[tuple[float, float, float]]  # across, accuracy and half-width of its interval, as fractions
Panel = tuple[str, Mapping[str, Line]]  # what is across, and a line for each name
Floats = NDArray[np.float32]


def curve(trainings: Mapping[str, Sequence[Metric]], kind: Literal["png", "svg"] = "png") -> bytes:
    """A picture: accuracy with its 95 % interval against outer steps and against minutes, a line for each training.

    Raises MissingExtra where matplotlib is not installed.
    """
    steps = {name: [(m.meta_steps, m.accuracy, m.ci95) for m in metrics] for name, metrics in trainings.items()}
    minutes = {name: [(m.seconds / 60, m.accuracy, m.ci95) for m in metrics] for name, metrics in trainings.items()}
    panels: list[Panel] = [("outer steps of meta-training", steps), ("minutes of meta-training", minutes)]
    return _drawn(panels, "accuracy on new classes, %\n(1-shot, transductive)", kind)


def compared(found: Sequence[Comparison], kind: Literal["png", "svg"] = "png") -> bytes:
    """A picture: accuracy with its 95 % interval against inner steps for each number of shots, and against shots.

    Raises MissingExtra where matplotlib is not installed.
    """
    panels: list[Panel] = [
        (f"inner steps, {c.shots}-shot", {r.name: [(p.steps, p.accuracy, p.ci95) for p in r.points] for r in c.rivals})
        for c in found
    ]
    if len(found) > 1:
        by_shots: dict[str, list[tuple[float, float, float]]] = {}
        for c in sorted(found, key=lambda c: c.shots):
            for rival in c.rivals:
                by_shots.setdefault(rival.name, []).append((c.shots, rival.accuracy, rival.ci95))
        panels.append(("shots", by_shots))
    return _drawn(panels, f"accuracy, %\n({found[0].ways}-way, {found[0].mode})", kind)


def _drawn(panels: Sequence[Panel], up: str, kind: Literal["png", "svg"]) -> bytes:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("plots need matplotlib; pip install 'fewshot-sdk[figures]'") from None
    figure = Figure(figsize=(4.5 * len(panels), 3.6), layout="constrained")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for i, (axes, (label, lines)) in enumerate(zip(every, panels, strict=True)):
        for name, points in lines.items():
            across = [x for x, _, _ in points]
            (line,) = axes.plot(across, [100 * y for _, y, _ in points], marker=".", label=name)
            low, high = ([100 * (y + sign * ci) for _, y, ci in points] for sign in (-1, 1))
            axes.fill_between(across, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        if i == 0:
            axes.set_ylabel(up)
            axes.legend(loc="lower right")
    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fewshot-sdk"}):  # the same bytes each time
        figure.savefig(data, format=kind, dpi=100, metadata={"Software": None} if kind == "png" else {"Date": None})
    return data.getvalue()


def across(points: Floats) -> Floats:
    """Where to draw a curve through points (n, 2): 200 inputs, float32 (200, 1), from end to end of them and beyond."""
    low, high = float(points[:, 0].min()), float(points[:, 0].max())
    margin = 0.1 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, 200, dtype=np.float32)[:, None]


def picture(points: Floats, curves: dict[str, Floats], names: tuple[str, str]) -> bytes:
    """A PNG: the points (n, 2), and each curve's outputs at the inputs `across` them, by name. names: of the two axes.

    Raises MissingExtra where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("plots need matplotlib; pip install 'fewshot-sdk[figures]'") from None
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for (name, outputs), style in zip(curves.items(), ("--", "-"), strict=True):
        axes.plot(across(points)[:, 0], outputs, style, label=name, linewidth=1)
    axes.plot(points[:, 0], points[:, 1], "k.", label=f"the {len(points)} points")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100, metadata={"Software": None})
    return data.getvalue()
