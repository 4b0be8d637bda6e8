"""What `fewshot adapt` reports of its result: how it was chosen, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewshot_sdk.adaptation.adaptation import Adaptation
    from fewshot_sdk.adaptation.cross_validation import Outcome
    from fewshot_sdk.artifacts.classifier import Classifier
    from fewshot_sdk.config.records import Calibration, ClassifierConfig
    from fewshot_sdk.config.regression import RegressorConfig
    from fewshot_sdk.config.verdict import Verdict
    from fewshot_sdk.images.doctor import Finding
    from fewshot_sdk.images.support import SupportSet


def recognized(classifier: Classifier, support: SupportSet) -> int:
    """How many support pictures the classifier gets right."""
    if not len(support.targets):
        return 0
    return int((classifier.probabilities(support.images).argmax(1) == support.targets).sum())


def record(
    made: Adaptation, verdict: Verdict, right: int, warnings: Sequence[Finding], output: Path
) -> dict[str, object]:
    """An adaptation for JSON; right: how many of its support pictures it recognizes."""
    classifier, config = made.classifier, made.classifier.config
    n = len(classifier.support.targets)
    return {
        "output": str(output),
        "initialization": config.initialization.name,
        "labels": list(classifier.labels),
        "images": n,
        "method": config.method,
        "steps": config.adaptation.steps,
        "verdict": {"text": str(verdict), **asdict(verdict)},
        "reason": made.reason,
        "comparison": [{**o.trial.model_dump(), "seconds": o.seconds} for o in made.outcomes],
        "findings": [asdict(finding) for finding in warnings],
        "temperature": config.temperature,
        "threshold": config.threshold,
        "least_score": config.least_score,
        "score": config.score,
        "calibration": config.calibration.model_dump() if config.calibration else None,
        "support_accuracy": right / n if n else None,
    }


def record_of_numbers(config: RegressorConfig, output: Path) -> dict[str, object]:
    """An adaptation to numbers for JSON."""
    return {
        "output": str(output),
        "initialization": config.initialization.name,
        "inputs": list(config.inputs),
        "predicts": config.output,
        "points": config.points,
        "steps": config.adaptation.steps,
        "mean_squared_error": {"before": config.before, "after": config.after, "held_out": config.held_out},
    }


def details(made: Adaptation, right: int) -> str:
    """All that was compared and measured, in lines; right: how many support pictures the classifier recognizes."""
    config, n = made.classifier.config, len(made.classifier.support.targets)
    lines = [comparison(made.outcomes)] if len(made.outcomes) > 1 else []
    if config.calibration:
        lines.append(calibration(config.calibration, config))
    steps = f", {config.adaptation.steps} steps" if config.method == "reptile" else ""
    lines.append(f"adapted {config.initialization.name} to {len(config.labels)} classes by {config.method}{steps}")
    if n:
        lines[-1] += f"; it recognizes {right} of its {n} support {config.preprocessing.example}s"
    return "\n".join(lines)


def comparison(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a plain-text table."""
    width = max(14, *(len(o.trial.init) for o in outcomes))
    lines = [f"{'method':<11} {'initialization':<{width}} steps  accuracy ± s.e.  log loss    time"]
    for o in outcomes:
        t = o.trial
        accuracy = f"{100 * t.accuracy:5.1f} ± {100 * t.standard_error:4.1f} %"
        scores = f"{accuracy}  {t.log_loss:8.3f}  {1000 * o.seconds:5.0f} ms"
        lines.append(f"{t.method:<11} {t.init:<{width}} {t.steps:>5}  {scores}")
    return "\n".join(lines)


def calibration(found: Calibration, config: ClassifierConfig) -> str:
    """How far the probabilities and the answer `unknown` can be trusted, in one line."""
    text = f"calibration error {found.ece:.1%} (at temperature 1: {found.ece_before:.1%})"
    if config.least_score is not None:
        text += (
            f"; unknown below a {'cosine' if config.score == 'cosine' else 'highest logit'} of {config.least_score:.3g}"
        )
    text += f"; {rejection(found, config)}"
    return text if found.auroc is None else f"{text}; AUROC against left-out classes {found.auroc:.3f}"


def rejection(found: Calibration, config: ClassifierConfig) -> str:
    """What the answer `unknown` costs and gives, in one clause."""
    least_score, example = config.least_score, config.preprocessing.example
    if least_score is None and found.reject_rate:
        few = f"{found.pictures} {example}s are too few to lose at most {found.reject_rate:.0%} of its own"
        return f"it never says unknown, because {few}"
    if least_score is None:
        return "it never says unknown"
    text = f"it calls {found.known_lost:.0%} of {example}s of its classes unknown"
    if found.known_lost_most is not None:
        text += (
            f" (asked: {found.reject_rate:.0%}; from {found.pictures} {example}s, at most {found.known_lost_most:.0%})"
        )
    if found.unknown_rejected is not None:
        text += f", and {found.unknown_rejected:.0%} of {example}s of other things"
    return text
