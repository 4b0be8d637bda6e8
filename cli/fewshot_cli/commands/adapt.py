"""`fewshot adapt`."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fewshot_cli import adapt_features, adapt_good, adapt_numbers, adapt_onnx
from fewshot_cli.adapt_options import AdaptOptions
from fewshot_cli.adapted import details, recognized, record
from fewshot_cli.group import app
from fewshot_cli.options import options
from fewshot_cli.output import emit_json, say
from fewshot_cli.watching import cross_validated, examined_aloud
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import check_free, write_folder

if TYPE_CHECKING:
    from fewshot_sdk.adaptation.adaptation import Adaptation
    from fewshot_sdk.algorithms import Part
    from fewshot_sdk.artifacts.classifier import Classifier, Delta
    from fewshot_sdk.artifacts.initialization import Initialization, NumberInitialization
    from fewshot_sdk.images.doctor import Finding

    Inits = dict[str, Initialization]


@app.command()
@options(AdaptOptions)
def adapt(given: AdaptOptions) -> None:
    """Adapt an initialization to a few pictures, features or points."""
    if given.backbone is not None and (given.init != "auto" or not given.backbone.startswith("timm:")):
        raise typer.BadParameter("--backbone takes timm:NAME, and excludes --init")
    if given.engine == "onnx":
        others = (given.reject_rate, given.extend, given.delta, given.backbone, given.trainable)
        if (
            given.method not in (None, "reptile")
            or any(value is not None for value in others)
            or given.label_from != "folder"
            or given.labels
            or not given.keep_pictures
            or given.verbose
            or given.skip_bad
            or given.one_class
        ):
            raise typer.BadParameter(
                "--engine onnx supports only Reptile's steps on class folders; of the optional options it takes "
                "--init, --steps, --seed and --json"
            )
        adapt_onnx.adapt(given.support, given.output, given.init, given.steps, given.seed, given.json)
        return
    if given.steps is not None and given.method in ("prototypes", "probe"):
        raise typer.BadParameter(f"--steps is for Reptile; --method {given.method} takes no steps")
    fixed = given.method or given.trainable or given.steps is not None or given.reject_rate is not None or given.seed
    if given.extend and fixed:
        raise typer.BadParameter(
            "leave out --method, --steps, --trainable, --reject-rate and --seed: --extend uses those of the classifier"
        )
    check_free(given.output)
    began = time.perf_counter()
    if adapt_good.wanted(given):
        adapt_good.adapt(given, began)
        return
    if adapt_features.wanted(given.support, given.start):
        if given.label_from != "folder" or given.delta or given.trainable or given.steps is not None or given.skip_bad:
            raise ConfigError(
                f"{given.support} holds features: leave out --label-from, --skip-bad, --steps, --trainable and "
                "--delta, which are for pictures and networks"
            )
        _to_pictures(given, {}, began)
        return
    if given.labels is not None:
        raise ConfigError("--labels is for features in a .npy or .npz; pictures and CSVs have their own")
    if given.extend is None and not given.is_table:
        from fewshot_sdk.images.sources import open_source

        with open_source(given.support, given.label_from):  # reports a wrong folder before PyTorch is loaded
            pass
    opened = _opened(given)
    if isinstance(opened, dict):
        _to_pictures(given, opened, began)
    else:
        unfit = given.method not in (None, "reptile") or given.reject_rate is not None or given.label_from != "folder"
        unfit = unfit or bool(given.extend or given.delta or given.verbose or given.skip_bad or not given.keep_pictures)
        adapt_numbers.adapt(opened, given.support, given.output, given.steps, given.seed, given.json, unfit=unfit)


def _opened(given: AdaptOptions) -> Inits | NumberInitialization:
    """The initializations for pictures by name, or the one for numbers that is named or fits the columns of the CSV."""
    from fewshot_sdk.artifacts.initialization import of_numbers
    from fewshot_sdk.artifacts.opening import bundled_for, load, load_any, load_bundled

    if given.start == "auto":
        if given.is_table and (init := bundled_for(given.support)):
            columns = ", ".join((*init.recipe.inputs, init.recipe.output))
            say(f"found numbers in the columns {columns}: using the initialization {init.recipe.preset}")
            return init
        if inits := load_bundled():
            return inits
    found = load_any(given.start) if given.is_table else load(given.start)
    return found if of_numbers(found) else {found.recipe.preset: found}


def _to_pictures(given: AdaptOptions, inits: Inits, began: float) -> None:
    from fewshot_sdk.config.verdict import verdict_of

    made, warnings = _adapted(given, inits) if given.extend is None else _extended(given, given.extend, inits)
    classifier, config = made.classifier, made.classifier.config
    n = len(classifier.support.targets)
    right = recognized(classifier, classifier.support)
    kept = classifier if given.keep_pictures else classifier.without_pictures()
    delta = _delta(given, kept, inits) if given.delta else None
    files = (delta or kept).files()
    named = delta and given.start != "auto" and not given.start.startswith("timm:")
    base = f" --base {shlex.quote(given.start)}" if named else ""
    if given.keep_pictures and n:
        from fewshot_cli.report import report_of

        page = report_of(made, warnings, given.output, time.perf_counter() - began, base)
        files["report.html"] = page.encode()
    write_folder(given.output, files)
    verdict = verdict_of(config.calibration, len(config.labels), n, example=config.preprocessing.example)
    say(f"{verdict}\n{made.reason}")
    if given.verbose:
        say(details(made, right))
    result = record(made, verdict, right, warnings, given.output)
    if delta:
        from fewshot_sdk.artifacts.opening import load_classifier
        from fewshot_sdk.storage.deltas import STEP

        size, again = len(files[STEP]), recognized(load_classifier(given.output, delta.base), classifier.support)
        result["delta"] = {"precision": given.delta, "bytes": size, "support_accuracy": again / n if n else None}
    if given.json:
        emit_json(result)
    if delta:
        say(
            f"stored as its {given.delta} delta from {config.initialization.name}, {size / 1000:,.0f} kB; "
            f"restored from it, the classifier recognizes {again} of its {n} support pictures"
        )
    if "report.html" not in files:
        say(f"no report.html, because it would contain the {config.preprocessing.example}s")
    folder, file = shlex.quote(str(given.output)), shlex.quote(f"{given.output}.onnx")
    more = f" (details: {given.output / 'report.html'})" if "report.html" in files else ""
    say(f"wrote {given.output}{more}; next: fewshot export {folder}{base} --output {file}")


def _adapted(given: AdaptOptions, inits: Inits) -> tuple[Adaptation, tuple[Finding, ...]]:
    from fewshot_sdk.adaptation.adaptation import REJECT_RATE, compare_and_adapt, settings_of, suitable

    if not inits:
        how = (given.method, given.reject_rate, given.seed, given.keep_pictures)
        return adapt_features.adapted(given.support, given.labels, *how)
    if given.trainable:
        inits = {name: _with_trainable(init, given.trainable) for name, init in inits.items()}
    inits = suitable(inits) or inits
    method = given.method or ("auto" if given.steps is None else "reptile")
    where = (given.support, settings_of(inits, method), given.label_from)
    examined = examined_aloud(*where, skip_bad=given.skip_bad, in_report=given.keep_pictures)
    made = compare_and_adapt(
        inits,
        examined,
        method=method,
        steps=given.steps,
        reject_rate=REJECT_RATE if given.reject_rate is None else given.reject_rate,
        seed=given.seed,
        watch=cross_validated,
    )
    return made, examined.warnings


def _extended(given: AdaptOptions, model: Path, inits: Inits) -> tuple[Adaptation, tuple[Finding, ...]]:
    from fewshot_sdk.adaptation.extension import extend
    from fewshot_sdk.artifacts.opening import load_classifier
    from fewshot_sdk.config.recipe import Rows

    classifier = load_classifier(model, None if given.start == "auto" else next(iter(inits.values()), None))
    preprocessing, old = classifier.config.preprocessing, classifier.support
    if not inits or isinstance(preprocessing, Rows):
        return adapt_features.extended(classifier, given.support, given.labels, given.keep_pictures)
    where = (given.support, [preprocessing], given.label_from)
    examined = examined_aloud(*where, skip_bad=given.skip_bad, in_report=given.keep_pictures, kept=old)
    return extend(classifier, examined.supports[preprocessing], inits, watch=cross_validated), examined.warnings


def _with_trainable(init: Initialization, trainable: Part) -> Initialization:
    recipe = init.recipe
    return replace(init, recipe=recipe.replace(adaptation=recipe.adaptation.replace(trainable=trainable)))


def _delta(given: AdaptOptions, classifier: Classifier, inits: Inits) -> Delta:
    from fewshot_sdk.artifacts.classifier import Delta

    origin = classifier.config.initialization
    base = next((init for init in inits.values() if init.sha256 == origin.sha256), None)
    if base is None:
        raise ConfigError(f"a delta needs {origin.name} (sha256 {origin.sha256[:16]}...); name it with --init")
    return Delta(classifier=classifier, base=base, precision=given.delta or "float16")
