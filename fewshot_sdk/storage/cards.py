"""Cards: the text of README.md from a config.json, and measured results as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from fewshot_sdk.algorithms import ALGORITHMS, OUTER_NAMES
from fewshot_sdk.config.inspection import InspectorConfig
from fewshot_sdk.config.promises import promise_of
from fewshot_sdk.config.recipe import Recipe
from fewshot_sdk.config.records import (
    Baseline,
    ClassifierConfig,
    DeltaConfig,
    Evaluation,
    InitializationConfig,
    Provenance,
)
from fewshot_sdk.config.regression import Fit, Regression, RegressionConfig, RegressorConfig
from fewshot_sdk.config.verdict import verdict_of
from fewshot_sdk.storage.rendering import render

BASELINES: dict[Baseline, str] = {
    "prototypes": "class means of its features, no step",
    "probe": "linear probe on its features",
    "random": "random initialization, same steps",
}
_WAVES = "waves a sin(x + b) with a from 0.1 to 5, any b, x from -5 to 5"
_NO_RESULT = "No result recorded yet: `fewshot evaluate DIR --record` adds one."


def initialization_card(config: InitializationConfig) -> str:
    """The README.md of an initialization; a pure function of its config.json."""
    recipe, provenance, evaluations = config.recipe, config.provenance, config.evaluations
    return _card(
        "initialization",
        bundled=config.bundled,
        recipe=recipe,
        provenance=provenance,
        model_index=model_index(recipe.preset, evaluations),
        results=results_table(evaluations),
        baselines=baselines_table(evaluations),
        network=recipe.backbone.described(),
        data=recipe.data.row,
        use=use_of(recipe, provenance),
        measured=bool(evaluations),
    )


def use_of(recipe: Recipe, provenance: Provenance) -> str:
    """Whether an initialization may be used in products, as Markdown; empty where nothing restricts it."""
    if recipe.data.row.research or provenance.for_research:
        return "**For research only**: it was trained on pictures that are for research."
    weights = provenance.published
    if weights is None:
        return ""
    if provenance.start or recipe.data.own:
        return (
            f"**The weights that it began with** may be used in products: they are published under {weights.licence}, "
            f"by\n{weights.authors}.\nWhether yours may be, depends on the pictures that it was trained on."
        )
    return (
        f"**May be used in products**: the weights that it began with are published under {weights.licence},"
        "\nwhich asks to pass on the notice of whose they are: see `NOTICE`."
    )


def classifier_card(config: ClassifierConfig, n_support: int) -> str:
    """The README.md of an adapted classifier; a pure function of its config.json and support set."""
    precision = config.precision if isinstance(config, DeltaConfig) else None
    dropped = any(edit.dropped for edit in config.edits)
    verdict = verdict_of(
        config.calibration, len(config.labels), n_support, dropped=dropped, example=config.preprocessing.example
    )
    return _card("classifier", config=config, n_support=n_support, precision=precision, verdict=verdict)


def regression_card(config: RegressionConfig) -> str:
    """The README.md of an initialization for numbers; a pure function of its config.json."""
    return _card(
        "regression",
        bundled=config.bundled,
        recipe=config.recipe,
        provenance=config.provenance,
        results=fits_table(config.evaluations),
        network=layers(config.recipe),
        data=_WAVES,
    )


def regressor_card(config: RegressorConfig) -> str:
    """The README.md of an adapted initialization for numbers; a pure function of its config.json."""
    return _card("regressor", config=config)


def inspector_card(config: InspectorConfig) -> str:
    """The README.md of an inspector; a pure function of its config.json."""
    return _card("inspector", config=config, promise=promise_of(config))


def layers(recipe: Regression) -> str:
    """The network of an initialization for numbers, in words."""
    sizes = (len(recipe.inputs), *recipe.network.widths, 1)
    return f"fully connected, {'-'.join(map(str, sizes))}, tanh"


def results_table(evaluations: Sequence[Evaluation]) -> str:
    """Accuracies as a Markdown table, or a sentence if there are none."""
    rows = [(task_of(e), e.mode, _percent(e), f"{e.tasks:,}", str(e.seed)) for e in evaluations if e.baseline is None]
    return _table(("task", "mode", "accuracy", "tasks", "seed"), rows) if rows else _NO_RESULT


def baselines_table(evaluations: Sequence[Evaluation]) -> str:
    """Accuracies of the baselines on the same tasks as a Markdown table; empty if there are none."""
    measured: dict[tuple[str, str, int, int], dict[str, str]] = {}
    for e in evaluations:
        if e.baseline is not None:
            measured.setdefault((task_of(e), e.mode, e.tasks, e.seed), {})[e.baseline] = _percent(e)
    if not measured:
        return ""
    columns = {name: title for name, title in BASELINES.items() if any(name in each for each in measured.values())}
    rows = [
        (task, mode, *(each.get(name, "") for name in columns), f"{tasks:,}", str(seed))
        for (task, mode, tasks, seed), each in measured.items()
    ]
    return "\n" + _table(("baseline", "mode", *columns.values(), "tasks", "seed"), rows) + "\n"


def fits_table(evaluations: Sequence[Fit]) -> str:
    """Mean squared errors as a Markdown table, or a sentence if there are none."""
    rows = [
        (
            f"{e.data}, {e.points} points", str(e.steps), f"{e.mean_squared_error:.4f} ± {e.ci95:.4f}",
            f"{e.waves:,}", str(e.seed),
        )
        for e in evaluations
    ]  # fmt: skip
    return _table(("task", "inner steps", "mean squared error", "waves", "seed"), rows) if rows else _NO_RESULT


def model_index(name: str, evaluations: Sequence[Evaluation]) -> str:
    """The results as the Hub reads them: an entry per kind of task, a metric per mode, in percent.

    Strings are quoted as JSON, which is valid YAML whatever they contain.
    """
    if not evaluations:
        return ""
    lines = ["model-index:", f"- name: {json.dumps(name)}", "  results:"]
    last = None
    for e in evaluations:
        task = (e.data, e.part, f"{e.ways}-way {e.shots}-shot")
        if task != last:
            last = task
            lines += ["  - task: {type: image-classification, name: few-shot image classification}"]
            data = {"type": e.data, "name": e.data, "config": task[2], "split": e.part}
            lines += [f"    dataset: {json.dumps(data)}", "    metrics:"]
        by = f", baseline: {BASELINES[e.baseline]}" if e.baseline else ""
        named = f"{e.mode} accuracy{by}, {_percent(e)} (95 % interval over {e.tasks:,} tasks)"
        metric = {"type": "accuracy", "value": round(100 * e.accuracy, 2), "name": named}
        about: dict[str, object] = {"ci95": round(100 * e.ci95, 2), "tasks": e.tasks, "seed": e.seed, "mode": e.mode}
        if e.baseline:
            about["baseline"] = e.baseline
        lines += [f"    - {json.dumps({**metric, 'args': about}, ensure_ascii=False)}"]
    return "\n".join(lines) + "\n"


def task_of(e: Evaluation) -> str:
    """The task in words: the data set, the part of its classes unless it is `test`, ways and shots."""
    data = e.data if e.part == "test" else f"{e.data} ({e.part} classes)"
    return f"{data} {e.ways}-way {e.shots}-shot"


def _card(name: str, **values: object) -> str:
    names = {"algorithms": ALGORITHMS, "outer_names": OUTER_NAMES}
    return render(f"storage/templates/{name}.md.j2", **names, **values) + "\n"


def _percent(e: Evaluation) -> str:
    return f"{100 * e.accuracy:.2f} ± {100 * e.ci95:.2f} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" if cells else "|---" * len(head) + "|" for cells in (head, (), *rows))
