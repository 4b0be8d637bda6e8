"""The report.html that `fewshot adapt` writes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_cli.adapted import calibration, rejection
from fewshot_sdk.adaptation.choice import described
from fewshot_sdk.adaptation.mistakes import find_mistakes
from fewshot_sdk.config.recipe import Rows
from fewshot_sdk.config.verdict import verdict_of
from fewshot_sdk.images.doctor import Finding
from fewshot_sdk.runtime.calibration import softmax
from fewshot_sdk.web.report import HeldOutAnswers, Report, Row, render

NO_CURVE = (
    "How accuracy grows with the number of pictures is measured only for prototypes and probes, on networks that judge "
    "each picture alone: otherwise it would take as long as adapting."
)

if TYPE_CHECKING:
    from fewshot_sdk.adaptation.adaptation import Adaptation


def report_of(made: Adaptation, findings: Sequence[Finding], output: Path, seconds: float, base: str = "") -> str:
    """The page of an adaptation that took `seconds` from reading to the end; base: the `--base` that a delta needs."""
    classifier, config = made.classifier, made.classifier.config
    chosen = next(
        (
            outcome
            for outcome in made.outcomes
            if (outcome.strategy.method, outcome.trial.init) == (config.method, config.initialization.name)
            and outcome.strategy.steps == config.adaptation.steps
        ),
        None,
    )
    comparison = [
        Row(
            method=described(outcome.trial),
            accuracy=100 * outcome.trial.accuracy,
            error=100 * outcome.trial.standard_error,
            log_loss=outcome.trial.log_loss or 0.0,
            seconds=outcome.seconds,
            chosen=outcome is chosen,
        )
        for outcome in made.outcomes
    ]
    held_out, mistakes = None, []
    example = config.preprocessing.example
    if chosen is not None:
        if not isinstance(config.preprocessing, Rows):  # which nobody can look at
            mistakes = find_mistakes(chosen, temperature=config.temperature, seed=config.seed)
        answers = chosen.held_out
        probabilities = softmax(answers.logits, config.temperature)
        held_out = HeldOutAnswers(probabilities=probabilities, targets=answers.targets, rows=answers.rows)
    notes, found = [made.reason[:1].upper() + made.reason[1:] + "."], config.calibration
    if found:
        notes.append(f"On held-out {example}s: {calibration(found, config)}.")
        if not found.curve:
            notes.append(NO_CURVE)
    folder, file = shlex.quote(str(output)), shlex.quote(f"{output}.onnx")
    page = Report(
        title=f"{output.name}: {len(classifier.labels)} classes from {len(classifier.support.targets)} {example}s",
        support=classifier.support,
        notes=notes,
        findings=[(finding.severity, finding.message) for finding in findings],
        comparison=comparison,
        held_out=held_out,
        verdict=verdict_of(found, len(config.labels), len(classifier.support.targets), example=example),
        example=example,
        curve=found.curve if found else (),
        rejection=rejection(found, config) if found else "",
        guessing=found.guessing if found else None,
        timings={"reading, comparing and adapting": seconds},
        mistakes=mistakes,
        commands=[
            f"fewshot export {folder}{base} --output {file}",
            f"fewshot predict {file} {'photo.jpg' if example == 'picture' else 'more.csv'}",
        ],
    )
    return render(page)
