"""`fewshot adapt` and `predict`, once their words are parsed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import fewshot_sdk
from fewshot_cli import numbers
from fewshot_cli.output import emit, emit_json, progress, say
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.storage.files import check_free, write_folder

if TYPE_CHECKING:
    from fewshot_cli.doctor import Examined
    from fewshot_sdk import Initialization
    from fewshot_sdk.adaptation.adaptation import Adaptation
    from fewshot_sdk.adaptation.cross_validation import Outcome
    from fewshot_sdk.algorithms import Part
    from fewshot_sdk.artifacts.classifier import Classifier, Delta
    from fewshot_sdk.config.records import Calibration, Precision
    from fewshot_sdk.images.sources import LabelFrom

REJECT_RATE = 0.05


@dataclass(frozen=True, kw_only=True)
class AdaptJob:
    """The words of `fewshot adapt`, parsed; None is the default."""

    support: Path
    output: Path
    init: str
    method: Literal["auto", "prototypes", "probe", "reptile"] | None
    steps: int | None
    trainable: Part | None
    reject_rate: float | None
    extend: Path | None
    label_from: LabelFrom
    keep_pictures: bool
    seed: int
    delta: Precision | None = None


def adapt(job: AdaptJob, json: bool) -> None:
    """`fewshot adapt`."""
    init = numbers.adapts_to_numbers(job)
    if init is not None:
        numbers.adapt(job, init, json)
        return
    from fewshot_cli.doctor import Examined
    from fewshot_sdk.images.sources import open_source
    from fewshot_sdk.storage.deltas import STEP

    check_free(job.output)
    began = time.perf_counter()
    examined = Examined(job.support, job.label_from)
    if job.extend is None:
        with open_source(job.support, job.label_from):  # a wrong folder is told before PyTorch is loaded
            pass
        made = _adapted(job, examined)
    else:
        made = _extended(job, job.extend, examined)
    classifier, config = made.classifier, made.classifier.config
    targets = classifier.support.targets
    right = recognized(classifier, classifier)
    kept = classifier if job.keep_pictures else classifier.without_pictures()
    delta = _delta(job, kept) if job.delta else None
    files_of = (delta or kept).files()
    named = delta and job.init != "auto" and not job.init.startswith("timm:")
    base = f" --base {shlex.quote(job.init)}" if named else ""
    if job.keep_pictures and len(targets):
        from fewshot_cli.report import report_of

        files_of["report.html"] = report_of(
            made, examined.findings or [], job.output, time.perf_counter() - began, base
        ).encode()
    write_folder(job.output, files_of)
    if len(made.outcomes) > 1:
        say(comparison(made.outcomes))
    say(made.reason)
    told: dict[str, object] = {}
    if delta:
        again = recognized(fewshot_sdk.load_classifier(job.output, delta.base), classifier)
        size = len(files_of[STEP])
        share = again / len(targets) if len(targets) else None
        told = {"delta": {"precision": job.delta, "bytes": size, "support_accuracy": share}}
    if json:
        trials = [{**o.trial.model_dump(), "seconds": o.seconds} for o in made.outcomes]
        emit_json(
            {
                "output": str(job.output),
                "initialization": config.initialization.name,
                "labels": list(classifier.labels),
                "images": len(targets),
                "method": config.method,
                "steps": config.adaptation.steps,
                "reason": made.reason,
                "comparison": trials,
                "findings": [asdict(finding) for finding in examined.findings or ()],
                "temperature": config.temperature,
                "threshold": config.threshold,
                "calibration": config.calibration.model_dump() if config.calibration else None,
                "support_accuracy": right / len(targets) if len(targets) else None,
                **told,
            }
        )
    if config.calibration:
        say(calibration(config.calibration, config.threshold))
    say(
        f"adapted {config.initialization.name} to {len(classifier.labels)} classes by {config.method}"
        + (f", {config.adaptation.steps} steps" if config.method == "reptile" else "")
        + (f"; {right} of its {len(targets)} support pictures are recognized" if len(targets) else "")
    )
    if delta:
        say(
            f"kept as its {job.delta} delta from {config.initialization.name}, {size / 1000:,.0f} kB; "
            f"restored from it, {again} of its {len(targets)} support pictures are recognized"
        )
    if "report.html" in files_of:
        say(f"{job.output / 'report.html'} shows it all")
    else:
        say("no report.html: it would hold the pictures")
    folder, file = shlex.quote(str(job.output)), shlex.quote(f"{job.output}.onnx")
    say(f"wrote {job.output}; next: fewshot export {folder}{base} --output {file}")


def recognized(classifier: Classifier, keeper: Classifier) -> int:
    """How many of the keeper's support pictures a classifier gets right."""
    images, targets = keeper.support.images, keeper.support.targets
    return int((classifier.probabilities(images).argmax(1) == targets).sum()) if len(targets) else 0


def _delta(job: AdaptJob, classifier: Classifier) -> Delta:
    inits = _initializations(job.init)
    origin = classifier.config.initialization
    base = next((init for init in inits.values() if init.sha256 == origin.sha256), None)
    if base is None:
        raise ConfigError(f"a delta needs {origin.name} (sha256 {origin.sha256[:16]}...); name it with --init")
    return fewshot_sdk.Delta(classifier=classifier, base=base, precision=job.delta or "float16")


def _adapted(job: AdaptJob, examined: Examined) -> Adaptation:
    from fewshot_sdk.adaptation.adaptation import compare_and_adapt, suitable

    inits = _initializations(job.init)
    if job.trainable:
        inits = {name: _moving(init, job.trainable) for name, init in inits.items()}
    inits = suitable(inits) or inits
    examined.expected = tuple(init.recipe.preprocessing for init in inits.values())
    return compare_and_adapt(
        inits,
        examined,
        method=job.method or ("auto" if job.steps is None else "reptile"),
        steps=job.steps,
        reject_rate=REJECT_RATE if job.reject_rate is None else job.reject_rate,
        seed=job.seed,
        watch=watch,
    )


def _extended(job: AdaptJob, model: Path, examined: Examined) -> Adaptation:
    from fewshot_sdk.adaptation.extension import extend

    classifier = fewshot_sdk.load_classifier(model, None if job.init == "auto" else job.init)
    examined.kept = classifier.support
    more = examined(classifier.config.preprocessing)
    return extend(classifier, more, _initializations(job.init), reject_rate=REJECT_RATE, watch=watch)


def _moving(init: Initialization, trainable: Part) -> Initialization:
    recipe = init.recipe
    return replace(init, recipe=recipe.replace(adaptation=recipe.adaptation.replace(trainable=trainable)))


def _initializations(name: str) -> dict[str, Initialization]:
    from fewshot_sdk.config.regression import PRESETS
    from fewshot_sdk.storage.repositories import bundled

    if name == "auto" and bundled():
        return {known: fewshot_sdk.load(known) for known in bundled() if known not in PRESETS}
    init = fewshot_sdk.load(name)
    return {init.recipe.preset: init}


def watch(work: Iterator[str], total: int) -> Iterator[str]:
    """Progress of cross-validation, once it takes longer than a second."""
    return progress(work, total, "cross-validating", str, plain_seconds=1.0)


def comparison(outcomes: Sequence[Outcome]) -> str:
    """What was compared, as a table for people."""
    width = max(14, *(len(o.trial.init) for o in outcomes))
    lines = [f"{'method':<11} {'initialization':<{width}} steps  accuracy ± s.e.  log loss    time"]
    for o in outcomes:
        t = o.trial
        accuracy = f"{100 * t.accuracy:5.1f} ± {100 * t.standard_error:4.1f} %"
        told = f"{accuracy}  {t.log_loss:8.3f}  {1000 * o.seconds:5.0f} ms"
        lines.append(f"{t.method:<11} {t.init:<{width}} {t.steps:>5}  {told}")
    return "\n".join(lines)


def calibration(found: Calibration, threshold: float) -> str:
    """How far the probabilities can be believed, in one line."""
    text = f"calibration error {found.ece:.1%} (before: {found.ece_before:.1%})"
    if threshold:
        text += f"; unknown under {threshold:.1%}, which loses {found.known_lost:.1%} of known pictures"
        if found.unknown_rejected is not None:
            text += f" and rejects {found.unknown_rejected:.1%} of left-out classes"
    return text if found.auroc is None else f"{text}; AUROC against left-out classes {found.auroc:.3f}"


def predict(model: Path, images: list[Path], base: str | None, json: bool) -> None:
    """`fewshot predict`: a folder is run by PyTorch, a file by onnxruntime."""
    from fewshot_sdk.runtime.opening import open_predictor
    from fewshot_sdk.runtime.regressor import NumberPredictor

    if model.is_dir():
        from fewshot_sdk.artifacts.opening import open_model
        from fewshot_sdk.artifacts.regressor import Regressor

        adapted = open_model(model, base)
        if isinstance(adapted, Regressor):
            return numbers.predict(adapted, model, images, json)
        found = adapted.predict(images)
    else:
        exported = open_predictor(model)
        if isinstance(exported, NumberPredictor):
            return numbers.predict(exported, model, images, json)
        found = exported.predict(images)
    if json:
        emit_json([{"image": str(image), **asdict(said)} for image, said in zip(images, found, strict=True)])
        return
    width = max(len(str(image)) for image in images)
    for image, said in zip(images, found, strict=True):
        if said.label is None:
            emit(f"{image!s:<{width}}  unknown (nearest: {said.nearest} {said.probability:.1%})")
        else:
            emit(f"{image!s:<{width}}  {said.label}  {said.probability:.1%}")
