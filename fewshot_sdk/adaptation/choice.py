"""Which of several ways to adapt is taken, by their results in cross-validation, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot_sdk.adaptation.cross_validation import Outcome, by_picture, log_losses
from fewshot_sdk.adaptation.methods import simplicity
from fewshot_sdk.config.records import Trial
from fewshot_sdk.intervals import standard_error

_FITTED = {"crop": "cropped", "stretch": "stretched", "pad": "padded"}


def representatives(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Of strategies that differ in features or fit only: the default, or what has a clearly lower log loss.

    Clearly: by more than one standard error of the mean difference over pictures. On the development folders the
    choices are equally good on average, so that taking the lowest log loss was worse than the default alone.
    """
    groups: dict[tuple[str, str, int], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.trial.init, outcome.trial.method, outcome.trial.steps), []).append(outcome)
    return [_clearly_best(group) for group in groups.values()]


def _clearly_best(group: Sequence[Outcome]) -> Outcome:
    default, *others = group
    if not others:
        return default
    before, better = log_losses(default.held_out), [default]
    for other in others:
        gain = by_picture(before - log_losses(other.held_out), default.held_out.rows)
        if gain.mean() > standard_error(gain):
            better.append(other)
    return min(better, key=lambda outcome: outcome.trial.log_loss or 0.0)


def choose(outcomes: Sequence[Outcome]) -> tuple[Outcome, str]:
    """The outcome with the lowest log loss within one standard error of the best accuracy, and why, in one sentence.

    With few pictures most strategies are within the standard error. Among them the log loss decides, as it also counts
    how near a wrong prediction was to the right one; on a tie, the simpler strategy: prototypes before a probe before
    gradient steps, and fewer steps before more. Taking the simplest at once (the 1 SE rule: Breiman et al. 1984,
    section 3.4.3) costs accuracy on pictures unlike the initialization's data; see benchmarks/README.md.
    """
    compared = representatives(outcomes)
    best = min(compared, key=lambda o: (-o.trial.accuracy, simplicity(o.strategy)))
    near = [o for o in compared if o.trial.accuracy >= best.trial.accuracy - best.trial.standard_error - 1e-12]
    chosen = min(near, key=lambda o: (o.trial.log_loss or 0.0, simplicity(o.strategy)))
    about = f"{described(chosen.trial)}: {chosen.trial.accuracy:.1%} in cross-validation"
    if len(outcomes) == 1:
        return chosen, f"{about}; nothing else was compared"
    if chosen is best:
        return chosen, f"chose {about}, the best, and nothing within its standard error has a lower log loss"
    return chosen, (
        f"chose {about}, the lowest log loss within one standard error ({best.trial.standard_error:.1%}) of the best, "
        f"{described(best.trial)} with {best.trial.accuracy:.1%}"
    )


def described(trial: Trial) -> str:
    """The method, steps and initialization of a trial, in words."""
    if trial.method == "reptile":
        at = f" at rate {trial.rate:g}" if trial.rate else ""
        return f"{trial.steps} reptile step{'' if trial.steps == 1 else 's'}{at} from {trial.init}"
    details = ", ".join(part for part in (trial.features, _FITTED.get(trial.fit, "")) if part)
    of = f"{trial.init} ({details})" if details else trial.init
    return f"{'prototypes' if trial.method == 'prototypes' else 'a linear probe'} on {of}"
