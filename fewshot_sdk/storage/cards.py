"""Model cards: from the settings and results in config.json to the text of README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewshot_sdk.algorithms import ALGORITHMS, OUTER_NAMES, Part
from fewshot_sdk.config.datasets import DATASETS
from fewshot_sdk.config.recipe import InnerLoop, MetaLoop, Recipe
from fewshot_sdk.config.records import ClassifierConfig, DeltaConfig, Evaluation, Provenance, Trial
from fewshot_sdk.storage.results import baselines_table, model_index, results_table

_PARTS: dict[Part, str] = {
    "all": "",
    "head": ", of the head alone",
    "body": ", of all but the head",
    "norm": ", of the norms and the head",
}


def initialization_card(recipe: Recipe, provenance: Provenance, evaluations: Sequence[Evaluation]) -> str:
    """The README.md of an initialization; a pure function of its config.json."""
    classes = f"{recipe.meta.n_way}" if recipe.head == "dense" else "any number of"
    way, method = "a few gradient steps", ""
    kind, name = recipe.meta.algorithm, ALGORITHMS[recipe.meta.algorithm].title
    steps = f"{provenance.meta_steps_done:,} outer steps of {recipe.meta.tasks_per_step} tasks"
    if recipe.meta.meta_steps == 0:
        kind, name, steps = "supervised", "supervised", "Pre-training alone, no outer step,"
    if recipe.head == "prototype":
        way, method = "the class means of its features", ""
    elif recipe.pretraining:
        way, method = "class means or a linear probe of its features", ', method="auto"'
    return f"""---
license: apache-2.0
library_name: fewshot-sdk
pipeline_tag: image-classification
tags: [fewshot-sdk, few-shot, meta-learning, {kind}]
datasets: [{recipe.data.name}]
{model_index(recipe.preset, evaluations)}---
# {recipe.preset}

A {name} initialization: {way} on a handful of your own pictures make it a
classifier of {classes} classes.

```python
from fewshot_sdk import adapt, export_onnx, load

# load takes the name of a bundled one, this folder, or user/repo@revision on the Hugging Face Hub
classifier = adapt(load("{recipe.preset}"), "my_images"{method})  # a folder of pictures per class
export_onnx(classifier, "model.onnx")
```

## Results
{results_table(evaluations)}
{baselines_table(evaluations)}
Mean accuracy over tasks of unseen classes, one query per class, with its 95 % interval over the tasks.
Transductive: a task's queries are classified together; inductive: each alone with the support set;
frozen: each alone, with the support set's statistics, which is what an adapted or exported classifier does.

## How it was made
    {provenance.command}

{steps} in {provenance.seconds / 60:.1f} minutes; seed {provenance.seed}; {_versions(provenance.versions)}.

| | |
|---|---|
| data | {DATASETS[recipe.data.name].about}, split `{recipe.data.split}`{_turned(recipe)} |
| classes and pixels, sha256 | `{provenance.data_sha256}` |
| picture | {_picture(recipe)} |
| network | {recipe.backbone.described()}; head `{recipe.head}` |{_pretraining(recipe)}{_meta_training(recipe)}
| adaptation | {steps_of(recipe.adaptation)} |

## Limits
It has seen {recipe.data.name} alone: {DATASETS[recipe.data.name].suits}.
The accuracy above says nothing about other kinds of pictures.
"""


def classifier_card(config: ClassifierConfig, n_support: int) -> str:
    """The README.md of an adapted classifier; a pure function of its config.json and support set."""
    origin = config.initialization
    labels = "\n".join(f"* {label}" for label in config.labels)
    return f"""---
library_name: fewshot-sdk
pipeline_tag: image-classification
tags: [few-shot, reptile]
---
# A classifier of {len(config.labels)} classes

{labels}

Adapted from `{origin.source or origin.name}` (sha256 `{origin.sha256}`)
by {_way(config)};
seed {config.seed}; {_versions(config.versions)}.
{_pictures(n_support)}{_kept_as(config)}

{_calibration(config)}{comparison_table(config.comparison)}
```python
from fewshot_sdk import export_onnx, load_classifier

classifier = load_classifier("my_model")  # this folder
export_onnx(classifier, "model.onnx")
```

The initialization was made by `{origin.provenance.command}`.
"""


def zoo_card(zoo: Mapping[str, tuple[Recipe, Sequence[Evaluation]]]) -> str:
    """The README.md of a folder of initializations: name -> its recipe and results."""
    rows = []
    for name, (recipe, evaluations) in sorted(zoo.items()):
        ways = f"{recipe.meta.n_way} classes" if recipe.head == "dense" else "any number of classes"
        about = f"{recipe.data.name}, {ways}, {recipe.backbone.described()}"
        tables = f"{results_table(evaluations)}\n{baselines_table(evaluations)}"
        rows.append(f"## [{name}]({name}/README.md)\n{about}.\n\n{tables}")
    return f"""# Models
The initializations that come with the package, by the name that `--init` and `load` take. Each folder's
card says how its weights were made. This page is rendered from their config.json by `make models`.

{chr(10).join(rows)}"""


def comparison_table(trials: Sequence[Trial]) -> str:
    """Cross-validated accuracies as a Markdown table; nothing if there are none."""
    rows = [
        f"| {t.method} | {t.init} | {t.steps} | {100 * t.accuracy:.1f} ± {100 * t.standard_error:.1f} % "
        f"| {'' if t.log_loss is None else round(t.log_loss, 3)} |"
        for t in trials
    ]
    head = "| method | initialization | steps | accuracy ± standard error | log loss |\n|---|---|---|---|---|\n"
    return f"\n## What was compared\n{head}{chr(10).join(rows)}\n" if rows else ""


def _way(config: ClassifierConfig) -> str:
    return {
        "prototypes": "prototypes: the mean of each class's features, no gradient step",
        "probe": "a linear probe: logistic regression on the features, the network itself unchanged",
        "reptile": steps_of(config.adaptation),
    }[config.method]


def _pictures(n: int) -> str:
    if n == 0:
        return "The pictures were not kept."
    return (
        f"`support.safetensors` holds small copies of its {n} support pictures,\n"
        "on which an export is checked; an exported file holds none of them."
    )


def _kept_as(config: ClassifierConfig) -> str:
    if not isinstance(config, DeltaConfig):
        return ""
    return (
        f"\nIts weights are kept as their difference from that initialization, in {config.precision}: what loads it "
        'needs both,\nand checks the hash above (`load_classifier("my_model", load("where that is"))`).'
    )


def _calibration(config: ClassifierConfig) -> str:
    found = config.calibration
    if found is None:
        rule = f"a picture under {config.threshold:.1%} is `unknown`" if config.threshold else "it never says `unknown`"
        return f"Its probabilities were not cross-validated: temperature {config.temperature:.3g}, {rule}.\n"
    lines = [
        "## How far to believe it",
        f"Cross-validated on its own {found.pictures} pictures ({found.folds} folds):\n",
        "| | |",
        "|---|---|",
        f"| accuracy ± standard error | {100 * found.accuracy:.1f} ± {100 * found.standard_error:.1f} % |",
        f"| expected calibration error, at temperature {config.temperature:.3g} | {100 * found.ece:.1f} % |",
        f"| the same at temperature 1 | {100 * found.ece_before:.1f} % |",
        f"| `unknown` under a probability of | {config.threshold:.1%} |",
        f"| known pictures lost to that | {found.known_lost:.1%} (asked: {found.reject_rate:.1%}) |",
    ]
    if found.auroc is not None and found.unknown_rejected is not None:
        lines += [
            f"| AUROC against classes left out | {found.auroc:.3f} |",
            f"| pictures of classes left out that are `unknown` | {found.unknown_rejected:.1%} |",
        ]
    return "\n".join(lines) + "\n"


def steps_of(inner: InnerLoop) -> str:
    """An inner loop in words."""
    name = "Adam (beta1 = 0)" if inner.optimizer == "adam" else "SGD"
    part = _PARTS[inner.trainable]
    sums = f" on the sum of its losses / {inner.loss_divisor}" if inner.loss_divisor else ""
    return f"{inner.steps} steps of {name}, rate {inner.learning_rate:g}, batch {inner.batch_size}{sums}{part}"


def _pretraining(recipe: Recipe) -> str:
    if (before := recipe.pretraining) is None:
        return ""
    how = f"{before.epochs} epochs, batch {before.batch_size}, rate {before.learning_rate:g}"
    return f"\n| supervised pre-training | {how} |"


def _meta_training(recipe: Recipe) -> str:
    if (meta := recipe.meta).meta_steps == 0:
        return ""
    return f"""
| meta-training tasks | {meta.n_way}-way, {meta.k_shot} shots{_algorithm(meta)} |
| inner loop | {steps_of(recipe.inner)} |
| outer step size{outer_of(meta)} \
| {meta.step_size:g} to {meta.final_step_size:g}, linear |"""


def outer_of(meta: MetaLoop) -> str:
    """The outer optimizer in words, if it is not just a step."""
    return "" if meta.optimizer == "sgd" else f", of {OUTER_NAMES[meta.optimizer]}"


def _algorithm(meta: MetaLoop) -> str:
    redrawn = ", mini-batches with replacement" if meta.replacement else ""
    row = ALGORITHMS[meta.algorithm]
    if row.tail == "never":
        return redrawn
    tail = f"{meta.tail_shots} of them kept for the last inner step" if meta.tail_shots else "shared tail"
    rates = ", a rate learned for each weight" if row.learns_rates else ""
    return f"; {meta.algorithm}, {tail}{rates}{redrawn}"


def _picture(recipe: Recipe) -> str:
    p = recipe.preprocessing
    kept = f", {p.kept:.3g} of each side" if p.kept < 1 else ""
    inverted = ", light on dark inverted" if p.polarity == "dark_on_light" else ""
    return f"{p.height} x {p.width} x {p.channels}, {p.fit}{kept}, filter `{p.resize}`{inverted}"


def _turned(recipe: Recipe) -> str:
    return ", each class turned by 0, 90, 180 and 270 degrees" if recipe.data.rotations else ""


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
