"""Plots of accuracy on the way through a meta-training."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Literal

from fewshot_sdk.errors import MissingExtra
from fewshot_sdk.records import Metric


def curve(trainings: Mapping[str, Sequence[Metric]], kind: Literal["png", "svg"] = "png") -> bytes:
    """A picture: accuracy with its 95 % interval against outer steps and against minutes, a line for each training.

    Raises MissingExtra where matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("plots need matplotlib; pip install 'fewshot-sdk[figures]'") from None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for i, (axes, label) in enumerate(zip(figure.subplots(1, 2, sharey=True), ("outer steps", "minutes"), strict=True)):
        for name, metrics in trainings.items():
            across = [metric.seconds / 60 if i else metric.meta_steps for metric in metrics]
            middle = [100 * metric.accuracy for metric in metrics]
            (line,) = axes.plot(across, middle, marker=".", label=name)
            low, high = ([100 * (m.accuracy + sign * m.ci95) for m in metrics] for sign in (-1, 1))
            axes.fill_between(across, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        axes.set_xlabel(f"{label} of meta-training")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        if i == 0:
            axes.set_ylabel("accuracy on new classes, %\n(1-shot, transductive)")
            axes.legend(loc="lower right")
    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fewshot-sdk"}):  # the same bytes each time
        figure.savefig(data, format=kind, dpi=100, metadata={"Software": None} if kind == "png" else {"Date": None})
    return data.getvalue()
