"""Renders models/README.md, every card in models/, docs/results.md and its plot: `make models`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fewshot_sdk.artifacts.initialization import (
    Initialization,
    NumberInitialization,
    of_numbers,
)
from fewshot_sdk.artifacts.opening import load_any
from fewshot_sdk.config.records import Evaluation, Provenance
from fewshot_sdk.storage.cards import baselines_table, fits_table, layers, results_table, task_of, use_of
from fewshot_sdk.storage.plots import curve
from fewshot_sdk.storage.replacement import replace_folder
from fewshot_sdk.storage.repositories import bundled
from tests.conftest import REPOSITORY

# Source: Nichol et al. 2018, Tables 1 and 2: (ways, shots) -> inductive and transductive, percent.
PAPER = {
    "omniglot": {
        (5, 1): {"inductive": 95.39, "transductive": 97.68},
        (5, 5): {"inductive": 98.90, "transductive": 99.48},
        (20, 1): {"inductive": 88.14, "transductive": 89.43},
        (20, 5): {"inductive": 96.65, "transductive": 97.12},
    },
    "mini-imagenet": {
        (5, 1): {"inductive": 47.07, "transductive": 49.97},
        (5, 5): {"inductive": 62.74, "transductive": 65.99},
    },
}
# The same for second-order MAML; its figures there are transductive.
MAML = {
    "omniglot": {(5, 1): 98.7, (5, 5): 99.9, (20, 1): 95.8, (20, 5): 98.9},
    "mini-imagenet": {(5, 1): 48.70, (5, 5): 63.11},
}
CURVES = ("omniglot-5way", "omniglot")
OF_THE_PAPER = ("omniglot-5way", "omniglot-20way", "mini-imagenet-5way")  # presets with its settings


def rendered() -> str:
    """The text that models/README.md must be."""
    sections = [_pictures(name, init) for name, init in for_pictures().items()]
    sections += [_numbers(name, init) for name, init in for_numbers().items()]
    listed = "\n".join(sections)
    return f"""# Models
The initializations that come with the package, by the name that `--init` and `load` take. Each folder's
card says how its weights were made. This page is rendered from their config.json by `make models`.

{listed}
"""


def _pictures(name: str, init: Initialization) -> str:
    recipe = init.recipe
    ways = f"{recipe.meta.n_way} classes" if recipe.head == "dense" else "any number of classes"
    about = f"{recipe.data.name}, {ways}, {recipe.backbone.described()}"
    use = use_of(recipe, init.provenance)
    tables = f"{results_table(init.evaluations)}\n{baselines_table(init.evaluations)}" if init.evaluations else ""
    return "\n\n".join(filter(None, (f"## [{name}]({name}/README.md)\n{about}.", use, tables))) + "\n" * (not tables)


def _numbers(name: str, init: NumberInitialization) -> str:
    recipe = init.recipe
    about = f"{recipe.data}, {recipe.output} from {', '.join(recipe.inputs)}, {layers(recipe)}"
    return f"## [{name}]({name}/README.md)\n{about}.\n\n{fits_table(init.evaluations)}"


def for_pictures() -> dict[str, Initialization]:
    """The bundled initializations for pictures, by name."""
    return {name: init for name in bundled() if not of_numbers(init := load_any(name))}


def for_numbers() -> dict[str, NumberInitialization]:
    """The bundled initializations for numbers, by name."""
    return {name: init for name in bundled() if of_numbers(init := load_any(name))}


def results() -> str:
    """The text that docs/results.md must be."""
    models = for_pictures()
    sections = [f"## {name}\n{_model(name, init)}" for name, init in models.items() if init.evaluations]
    sections += [f"## {name}\n{_fits(name, init)}" for name, init in for_numbers().items()]
    tables = "\n\n".join(sections)
    drawn = [name for name in CURVES if name in models and models[name].metrics]
    plot = "![accuracy against steps and minutes](omniglot.svg)\n" if drawn else ""
    return f"""# Results beside the paper's

Accuracy in percent over tasks of classes never trained on, one query per class, with the 95 % interval over the tasks.
The paper's figures are those of its Tables 1 and 2 (Nichol, Achiam, Schulman 2018), for Reptile, and for MAML with
its second-order terms; it does not define its own intervals. Its mini-ImageNet figures are for the test classes,
ours for the classes named in the table.
Transductive: a task's queries are classified together. Inductive: each alone, with the support set. Frozen: each
alone, with the support set's statistics, which is what an exported classifier does; the paper has no such column.
This page is rendered from the results that `fewshot evaluate --record` left in models/.

{_headline(models)}

{plot}
{tables}
"""


def _headline(models: Mapping[str, Initialization]) -> str:
    """How many of the paper's cells are met, by presets with its settings and by those with ours."""
    cells = {(data, *task, mode) for data, tasks in PAPER.items() for task, modes in tasks.items() for mode in modes}
    theirs = _met({name: models[name] for name in OF_THE_PAPER if name in models})
    ours = _met({name: init for name, init in models.items() if name not in OF_THE_PAPER})
    return (
        f"**Of the {len(cells)} figures of the paper, presets with its own settings reach {len(theirs)}, "
        f"presets with ours {len(ours)}.**"
    )


def _met(models: Mapping[str, Initialization]) -> set[tuple[str, int, int, str]]:
    """The cells that at least one of these reaches, on test classes."""
    return {
        (e.data, e.ways, e.shots, e.mode)
        for init in models.values()
        for e in init.evaluations
        if e.baseline is None and e.part == "test" and (short := _short(e)) is not None and short <= 0
    }


def _short(e: Evaluation) -> float | None:
    """Percentage points between the paper's figure and ours, at most 0 if ours is as good; None if it has none."""
    theirs = PAPER.get(e.data, {}).get((e.ways, e.shots), {}).get(e.mode)
    return None if theirs is None else theirs - 100 * e.accuracy


def plot() -> bytes | None:
    """docs/omniglot.svg: accuracy against minutes for the paper's preset and ours, where they have metrics."""
    models = for_pictures()
    drawn = {name: models[name].metrics for name in CURVES if name in models and models[name].metrics}
    return curve(drawn, "svg") if drawn else None


def _model(name: str, init: Initialization) -> str:
    lines = [
        *_made(init.provenance, init.metrics[-1].memory_mb if init.metrics else None),
        "| task | mode | ours | Reptile in the paper | | MAML in the paper |",
        "|---|---|---|---|---|---|",
    ]
    for e in (e for e in init.evaluations if e.baseline is None):
        theirs = PAPER.get(e.data, {}).get((e.ways, e.shots), {}).get(e.mode)
        short = _short(e)
        verdict = "" if short is None else "met" if short <= 0 else f"{short:.2f} short"
        maml = MAML.get(e.data, {}).get((e.ways, e.shots)) if e.mode == "transductive" else None
        lines.append(
            f"| {task_of(e)}, {e.tasks:,} tasks, seed {e.seed} | {e.mode} "
            f"| {100 * e.accuracy:.2f} ± {100 * e.ci95:.2f} | {'' if theirs is None else f'{theirs:.2f}'} | {verdict} "
            f"| {'' if maml is None else f'{maml:g}'} |"
        )
    lines += [baselines_table(init.evaluations)]
    return "\n".join([*lines, f"Each row: `fewshot evaluate {name} --ways N --shots K --tasks T --mode MODE`."])


def _fits(name: str, init: NumberInitialization) -> str:
    how = (
        "Mean squared error over whole waves never trained on, with the 95 % interval over the waves; the paper shows "
        "such curves and gives no figure."
    )
    lines = [*_made(init.provenance), how, "", fits_table(init.evaluations), ""]
    return "\n".join([*lines, f"Each row: `fewshot evaluate {name} --shots POINTS --tasks WAVES`."])


def _made(made: Provenance, memory_mb: float | None = None) -> list[str]:
    how, memory = made.versions.get("inner loop", "torch"), f" and {memory_mb:,.0f} MB" if memory_mb else ""
    took = f"{made.seconds / 60:.0f} minutes{memory}"
    return [f"`{made.command}`: {made.meta_steps_done:,} outer steps in {took} ({how}).", ""]


if __name__ == "__main__":
    for name, folder in bundled().items():
        replace_folder(folder, replace(load_any(name), bundled=name).files())
    (REPOSITORY / "models" / "README.md").write_text(rendered(), encoding="utf-8")
    (REPOSITORY / "docs" / "results.md").write_text(results(), encoding="utf-8")
    if drawn := plot():
        (REPOSITORY / "docs" / "omniglot.svg").write_bytes(drawn)
