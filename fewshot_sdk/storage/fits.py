"""The picture of a curve fitted to a few points: before any step, and after all."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from fewshot_sdk.errors import MissingExtra

Floats = NDArray[np.float32]


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
