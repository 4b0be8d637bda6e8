"""The README.md of initializations for numbers, and of what they become."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot_sdk.algorithms import ALGORITHMS
from fewshot_sdk.config.records import Provenance
from fewshot_sdk.config.regression import Fit, Regression, RegressorConfig
from fewshot_sdk.storage.cards import outer_of, steps_of

_DATA = {"sine": "waves a sin(x + b) with a from 0.1 to 5, any b, x from -5 to 5"}


def initialization_card(recipe: Regression, provenance: Provenance, evaluations: Sequence[Fit]) -> str:
    """The README.md of an initialization; a pure function of its config.json."""
    columns = ", ".join((*recipe.inputs, recipe.output))
    made = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    meta = recipe.meta
    return f"""---
license: apache-2.0
library_name: fewshot-sdk
pipeline_tag: tabular-regression
tags: [fewshot-sdk, few-shot, meta-learning, {meta.algorithm}]
---
# {recipe.preset}

A {ALGORITHMS[meta.algorithm].title} initialization for numbers: a few gradient steps on a handful of points make it
predict {recipe.output} from {" and ".join(recipe.inputs)}. It has learned from {_DATA[recipe.data]};
expect it to fit such curves, and no others.

    fewshot adapt --init {recipe.preset} --support points.csv --output my_curve    # with the columns {columns}
    fewshot export my_curve --output curve.onnx
    fewshot predict curve.onnx more_points.csv

## Results
{fits_table(evaluations)}

Mean squared error over whole waves that it was not trained on, with its 95 % interval over the waves.

## How it was made
    {provenance.command}

{provenance.meta_steps_done:,} outer steps of {meta.tasks_per_step} task{"s" if meta.tasks_per_step > 1 else ""} in \
{provenance.seconds / 60:.1f} minutes;
seed {provenance.seed}; {made}.

| | |
|---|---|
| tasks | {_DATA[recipe.data]}, sha256 of the first `{provenance.data_sha256}` |
| network | {_network(recipe)} |
| inner loop | {steps_of(recipe.inner)} |
| outer step size{outer_of(meta)} \
| {meta.step_size:g} to {meta.final_step_size:g}, linear |
| adaptation | {steps_of(recipe.adaptation)} |
"""


def regressor_card(config: RegressorConfig) -> str:
    """The README.md of an adapted initialization; a pure function of its config.json."""
    origin = config.initialization
    return f"""---
library_name: fewshot-sdk
pipeline_tag: tabular-regression
tags: [few-shot]
---
# {config.output} from {" and ".join(config.inputs)}

Adapted from `{origin.source or origin.name}` (sha256 `{origin.sha256}`) to {config.points} points
by {steps_of(config.adaptation)}; seed {config.seed}.

| mean squared error | |
|---|---|
| on its points, before any step | {config.before:.4g} |
| on its points, after {config.adaptation.steps} steps | {config.after:.4g} |
| on parts of its points left out, cross-validated | {config.held_out:.4g} |

    fewshot export DIR --output curve.onnx

The initialization was made by `{origin.provenance.command}`.
"""


def zoo_section(name: str, recipe: Regression, evaluations: Sequence[Fit]) -> str:
    """What the page of bundled initializations says of one."""
    about = f"{recipe.data}, {recipe.output} from {', '.join(recipe.inputs)}, {_network(recipe)}"
    return f"## [{name}]({name}/README.md)\n{about}.\n\n{fits_table(evaluations)}\n"


def fits_table(evaluations: Sequence[Fit]) -> str:
    """Errors as a Markdown table; one sentence if there are none."""
    if not evaluations:
        return "No result recorded yet: `fewshot evaluate DIR --record` adds one."
    rows = [
        f"| {e.data}, {e.points} points | {e.steps} | {e.mean_squared_error:.4f} ± {e.ci95:.4f} "
        f"| {e.waves:,} | {e.seed} |"
        for e in evaluations
    ]
    head = ["| task | inner steps | mean squared error | waves | seed |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _network(recipe: Regression) -> str:
    sizes = (len(recipe.inputs), *recipe.network.widths, 1)
    return f"fully connected, {'-'.join(map(str, sizes))}, tanh"
