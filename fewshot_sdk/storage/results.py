"""Measured accuracies as tables in Markdown, and as the Hub reads them from a card."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fewshot_sdk.config.records import Baseline, Evaluation

BASELINES: dict[Baseline, str] = {
    "prototypes": "class means of its features, no step",
    "probe": "linear probe on its features",
    "random": "random initialization, same steps",
}


def results_table(evaluations: Sequence[Evaluation]) -> str:
    """Accuracies as a Markdown table; one sentence if there are none."""
    if all(e.baseline for e in evaluations):
        return "No result recorded yet: `fewshot evaluate DIR --record` adds one."
    rows = [
        f"| {named_data(e)} {e.ways}-way {e.shots}-shot | {e.mode} | {100 * e.accuracy:.2f} ± {100 * e.ci95:.2f} % "
        f"| {e.tasks:,} | {e.seed} |"
        for e in evaluations
        if e.baseline is None
    ]
    return "\n".join(["| task | mode | accuracy | tasks | seed |", "|---|---|---|---|---|", *rows])


def baselines_table(evaluations: Sequence[Evaluation]) -> str:
    """What the same tasks give without the initialization's steps or without its weights; nothing if not measured."""
    rows: dict[tuple[str, str, int, int], dict[str, str]] = {}
    for e in evaluations:
        if e.baseline is not None:
            row = (f"{named_data(e)} {e.ways}-way {e.shots}-shot", e.mode, e.tasks, e.seed)
            rows.setdefault(row, {})[e.baseline] = f"{100 * e.accuracy:.2f} ± {100 * e.ci95:.2f} %"
    if not rows:
        return ""
    shown = {name: title for name, title in BASELINES.items() if any(name in found for found in rows.values())}
    lines = [
        f"| {task} | {mode} | {' | '.join(found.get(name, '') for name in shown)} | {tasks:,} | {seed} |"
        for (task, mode, tasks, seed), found in rows.items()
    ]
    head = f"| baseline | mode | {' | '.join(shown.values())} | tasks | seed |"
    return "\n".join(["", head, "|---|---|" + "---|" * len(shown) + "---|---|", *lines, ""])


def model_index(name: str, evaluations: Sequence[Evaluation]) -> str:
    """The results as the Hub reads them: an entry for each kind of task, a metric for each mode, in percent.

    Texts are quoted as JSON, which YAML understands whatever they hold.
    """
    if not evaluations:
        return ""
    lines = ["model-index:", f"- name: {json.dumps(name)}", "  results:"]
    shown = None
    for e in evaluations:
        task = (e.data, e.part, f"{e.ways}-way {e.shots}-shot")
        if task != shown:
            shown = task
            lines += ["  - task: {type: image-classification, name: few-shot image classification}"]
            data = {"type": e.data, "name": e.data, "config": task[2], "split": e.part}
            lines += [f"    dataset: {json.dumps(data)}", "    metrics:"]
        percent, interval = round(100 * e.accuracy, 2), round(100 * e.ci95, 2)
        by = f", baseline: {BASELINES[e.baseline]}" if e.baseline else ""
        named = f"{e.mode} accuracy{by}, {percent:.2f} ± {interval:.2f} % (95 % interval over {e.tasks:,} tasks)"
        metric = {"type": "accuracy", "value": percent, "name": named}
        about: dict[str, object] = {"ci95": interval, "tasks": e.tasks, "seed": e.seed, "mode": e.mode}
        if e.baseline:
            about["baseline"] = e.baseline
        lines += [f"    - {json.dumps({**metric, 'args': about}, ensure_ascii=False)}"]
    return "\n".join(lines) + "\n"


def named_data(e: Evaluation) -> str:
    """The data, and which of its classes if not those for testing."""
    return e.data if e.part == "test" else f"{e.data} ({e.part} classes)"
